/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/held_file.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"

int held_load(int run_dir, struct once_held *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	*ret = (struct once_held){ 0 };
	r = file_read_at(run_dir, HELD_FILE, ONCE_HELD_SIZE_MAX, &text, &size);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = once_held_parse(text, size, ret);
	if (r < 0)
		ret->overflows = true;
	return r;
}

int held_store(int run_dir, struct once_held *once)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (!once->is_unsaved)
		return 0;
	text = once_held_text(once);
	r = text ? file_replace(run_dir, HELD_FILE, text, strlen(text)) : -ENOMEM;
	if (r == 0)
		once->is_unsaved = false;
	return r;
}
