/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kern/netns.h"
#include "agent/observe.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

/* More stale namespaces than this are not worth remembering one by one. */
#define STALE_NSIDS_MAX 4096

void observer_init(struct observer *observer, struct rtnl *rtnl, const char *directory)
{
	*observer = (struct observer){
		.rtnl = rtnl,
		.directory = directory,
		.list_is_stale = true,
		.views_are_stale = true,
	};
}

void observer_done(struct observer *observer)
{
	snapshot_done(&observer->snapshot);
	free(observer->stale_nsids);
	*observer = (struct observer){ 0 };
}

void observer_ring_list(struct observer *observer)
{
	observer->list_is_stale = true;
}

void observer_ring_all(struct observer *observer)
{
	observer->list_is_stale = true;
	observer->views_are_stale = true;
}

static bool nsid_is_stale(const struct observer *observer, int32_t nsid)
{
	for (size_t i = 0; i < observer->n_stale_nsids; i++)
		if (observer->stale_nsids[i] == nsid)
			return true;
	return false;
}

static void mark_nsid(struct observer *observer, int32_t nsid)
{
	int32_t *slot;

	if (observer->views_are_stale || nsid_is_stale(observer, nsid))
		return;
	slot = observer->n_stale_nsids < STALE_NSIDS_MAX
		       ? ARRAY_APPEND(observer->stale_nsids, observer->n_stale_nsids)
		       : NULL;
	if (!slot) { /* too many to remember: read all */
		observer->views_are_stale = true;
		return;
	}
	*slot = nsid;
	observer->n_stale_nsids++;
}

void observer_ring(struct observer *observer, const struct bell *bell)
{
	if (bell->overrun)
		observer_ring_all(observer);
	if (bell->nsids_changed)
		observer_ring_list(observer);
	if (bell->netns_changed)
		mark_nsid(observer, bell->nsid);
}

static struct netns *find_netns(struct netns *list, size_t n, const struct netns_id *id)
{
	for (size_t i = 0; i < n; i++)
		if (netns_id_equal(&list[i].id, id))
			return &list[i];
	return NULL;
}

static int add_name(struct netns *netns, const char *name)
{
	char **slot;
	char *copy = strdup(name);

	if (!copy)
		return -ENOMEM;
	slot = ARRAY_APPEND(netns->names, netns->n_names);
	if (!slot) {
		free(copy);
		return -ENOMEM;
	}
	*slot = copy;
	netns->n_names++;
	return 0;
}

static int add_skipped(
	struct snapshot *snapshot, const char *directory, const struct netns_found *found)
{
	struct netns_skipped *slot = ARRAY_APPEND(snapshot->skipped, snapshot->n_skipped);

	if (!slot || asprintf(&slot->path, "%s/%s", directory, found->name) < 0)
		return -ENOMEM;
	slot->reason = found->skipped;
	snapshot->n_skipped++;
	return 0;
}

/* One namespace may have several files; found->name is NULL for the agent's own. */
static int add_found(
	struct observer *observer, struct snapshot *snapshot, const struct netns_found *found)
{
	struct netns *netns;

	if (found->skipped)
		return add_skipped(snapshot, observer->directory, found);
	netns = find_netns(snapshot->netns, snapshot->n_netns, &found->id);
	if (!netns) {
		netns = ARRAY_APPEND(snapshot->netns, snapshot->n_netns);
		if (!netns)
			return -ENOMEM;
		snapshot->n_netns++;
		netns->id = found->id;
		netns->nsid = found->nsid;
		netns->error = found->error;
	}
	return found->name ? add_name(netns, found->name) : 0;
}

/* The new list takes over what is known of namespaces that are still there; the rest goes with the old. */
static void take_over(struct observer *observer, struct snapshot *fresh)
{
	struct snapshot *old = &observer->snapshot;

	for (size_t i = 0; i < fresh->n_netns; i++) {
		struct netns *netns = &fresh->netns[i];
		struct netns *known = find_netns(old->netns, old->n_netns, &netns->id);

		if (!known) {
			netns->seq = observer->next_seq++;
			continue;
		}
		netns->seq = known->seq;
		netns->has_view = known->has_view;
		netns->view = known->view;
		known->view = (struct netns_view){ 0 };
		/* A number that cannot be asked for any more is still the one it had. */
		if (netns->error == 0)
			netns->error = known->nsid == netns->nsid ? known->error : -ESTALE;
		else
			netns->nsid = known->nsid;
	}
}

static int compare_seq(const void *pa, const void *pb)
{
	const struct netns *a = pa, *b = pb;

	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static int refresh_list(struct observer *observer)
{
	_cleanup_(netns_found_list_done) struct netns_found_list found = { 0 };
	_cleanup_(snapshot_done) struct snapshot fresh = { 0 };
	int r;

	r = netns_find(observer->rtnl, observer->directory, &found);
	if (r < 0)
		return r;
	for (size_t i = 0; i < found.n; i++) {
		r = add_found(observer, &fresh, &found.list[i]);
		if (r < 0)
			return r;
	}
	take_over(observer, &fresh);
	qsort(fresh.netns, fresh.n_netns, sizeof(*fresh.netns), compare_seq);
	snapshot_done(&observer->snapshot);
	observer->snapshot = fresh;
	fresh = (struct snapshot){ 0 };
	observer->list_is_stale = false;
	return 0;
}

static void refresh_view(struct observer *observer, struct netns *netns)
{
	struct netns_view view;
	int r;

	r = rtnl_read_netns(observer->rtnl, netns->nsid, &view);
	if (r < 0) {
		/* Most likely it is going away; a fresh list will tell. The old view holds meanwhile. */
		netns->error = r;
		observer->list_is_stale = true;
		return;
	}
	netns_view_done(&netns->view);
	netns->view = view;
	netns->has_view = true;
	netns->error = 0;
}

static bool is_stale(const struct observer *observer, const struct netns *netns)
{
	return observer->views_are_stale || !netns->has_view || netns->error != 0 ||
	       nsid_is_stale(observer, netns->nsid);
}

int observer_refresh(struct observer *observer)
{
	struct snapshot *snapshot = &observer->snapshot;
	bool all_viewed = true, all_read = true;
	int r;

	if (observer->list_is_stale) {
		r = refresh_list(observer);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < snapshot->n_netns; i++) {
		struct netns *netns = &snapshot->netns[i];

		if (is_stale(observer, netns))
			refresh_view(observer, netns);
		all_viewed = all_viewed && netns->has_view;
		all_read = all_read && netns->error == 0;
	}
	observer->views_are_stale = false;
	observer->n_stale_nsids = 0;
	snapshot->complete = all_viewed;
	return all_read && !observer->list_is_stale ? 0 : -EAGAIN;
}
