/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/kern/dataplane.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/attached.h"

void attached_read(struct attached *ret)
{
	*ret = (struct attached){ 0 };
	ret->error = dataplane_attached(&ret->list, &ret->n);
}

void attached_done(struct attached *attached)
{
	free(attached->list);
	*attached = (struct attached){ 0 };
}

static bool is_pinned(const struct attached *attached, uint32_t ifindex)
{
	for (size_t i = 0; i < attached->n; i++)
		if (attached->list[i] == ifindex)
			return true;
	return false;
}

int attached_now(
	const struct attached *attached, const struct agent_view *view, const json_t *interface)
{
	const char *attachment = json_text(interface, "attachment");

	if (!attachment[0] || strcmp(attachment, "none") == 0)
		return 0;
	if (view->life != AGENT_STOPPED)
		return 1;
	if (attached->error < 0)
		return attached->error;
	return is_pinned(attached, (uint32_t)json_number(interface, "ifindex"));
}

int attached_check(const json_t *interface, uint32_t ifindex)
{
	const char *kind = json_text(interface, "attachment");
	struct attachment attachment = { .ifindex = ifindex,
		.kind = strcmp(kind, "clsact") == 0 ? ATTACHMENT_CLSACT : ATTACHMENT_TCX,
		.program_id = (uint32_t)json_number(interface, "program_id") };
	_cleanup_(attached_done) struct attached attached;
	int r;

	attached_read(&attached);
	if (attached.error < 0)
		return attached.error;
	r = is_pinned(&attached, ifindex) ? 0 : -ENOENT;
	if (r == 0 && interface && geteuid() == 0)
		r = dataplane_check(&attachment);
	return r;
}
