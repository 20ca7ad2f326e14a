/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <net/if.h>
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

static bool is_filter(const json_t *interface)
{
	return strcmp(json_text(interface, "attachment"),
		       attachment_kind_name(ATTACHMENT_CLSACT)) == 0;
}

/* Any program of ours: an agent may have replaced it and ended before it could write that. */
static int ask_kernel(const json_t *interface, uint32_t ifindex)
{
	return dataplane_check_any(
		is_filter(interface) ? ATTACHMENT_CLSACT : ATTACHMENT_TCX, ifindex);
}

uint32_t attached_filter(const struct agent_view *view, const json_t *interface)
{
	uint32_t ifindex = (uint32_t)json_number(interface, "ifindex");
	uint32_t program_id = (uint32_t)json_number(interface, "program_id");

	if (geteuid() != 0 || !is_filter(interface) || agent_is_of_netns(view->document) != 1 ||
		dataplane_has_filter(ifindex, program_id) != 1)
		return 0;
	return program_id;
}

static int ask_name(const struct agent_view *view, const json_t *interface, uint32_t ifindex)
{
	char name[IF_NAMESIZE];

	if (agent_is_of_netns(view->document) != 1)
		return -EXDEV;
	if (!if_indextoname(ifindex, name))
		return errno == ENXIO ? -ENODEV : -errno;
	return strcmp(name, json_text(interface, "name")) == 0 ? 0 : -ENOENT;
}

int attached_now(
	const struct attached *attached, const struct agent_view *view, const json_t *interface)
{
	const char *attachment = json_text(interface, "attachment");
	uint32_t ifindex;
	int r;

	if (!attachment[0] || strcmp(attachment, "none") == 0)
		return 0;
	if (view->life != AGENT_STOPPED)
		return 1;
	if (attached->error < 0)
		return attached->error;
	ifindex = (uint32_t)json_number(interface, "ifindex");
	if (!is_pinned(attached, ifindex))
		return attached_filter(view, interface) != 0;
	/* A link is found from anywhere, a filter by an index that means something else in another namespace. */
	if (geteuid() == 0 && is_filter(interface) && agent_is_of_netns(view->document) == 0)
		return -EXDEV;
	r = geteuid() == 0 ? ask_kernel(interface, ifindex) : ask_name(view, interface, ifindex);
	/* A pin outlives what it was for, and the interface. */
	return r == 0 ? 1 : r == -ENOENT || r == -ENODEV ? 0 : r;
}

size_t attached_count(const struct attached *attached, const struct agent_view *view)
{
	const json_t *interface;
	size_t n = attached->n, i;

	json_array_foreach(json_object_get(view->document, "interfaces"), i, interface) n -=
		is_pinned(attached, (uint32_t)json_number(interface, "ifindex")) &&
		attached_now(attached, view, interface) == 0;
	return n;
}

int attached_check(const json_t *interface, uint32_t ifindex)
{
	_cleanup_(attached_done) struct attached attached;
	int r;

	attached_read(&attached);
	if (attached.error < 0)
		return attached.error;
	r = is_pinned(&attached, ifindex) ? 0 : -ENOENT;
	if (r == 0 && interface && geteuid() == 0)
		r = ask_kernel(interface, ifindex);
	return r;
}
