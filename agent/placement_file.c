/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/placement_file.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"

int placement_load(int run_dir, struct placement *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	*ret = (struct placement){ 0 };
	r = file_read_at(run_dir, PLACEMENT_FILE, PLACEMENT_SIZE_MAX, &text, &size);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = placement_parse(text, size, ret);
	if (r < 0)
		ret->detached = true;
	return r;
}

int placement_store(int run_dir, const struct placement *placement)
{
	_cleanup_free_ char *text = NULL;

	if (placement_is_default(placement))
		return unlinkat(run_dir, PLACEMENT_FILE, 0) < 0 && errno != ENOENT ? -errno : 0;
	text = placement_text(placement);
	return text ? file_replace(run_dir, PLACEMENT_FILE, text, strlen(text)) : -ENOMEM;
}
