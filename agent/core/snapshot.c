/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "agent/core/snapshot.h"

const char *netns_label(const struct netns *netns)
{
	if (netns->n_names > 0)
		return netns->names[0];
	if (netns->nsid == NSID_OWN)
		return "host";
	return netns->label ? netns->label : "?";
}

bool netns_id_equal(const struct netns_id *a, const struct netns_id *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

bool netns_id_is_none(const struct netns_id *id)
{
	return id->dev == 0 && id->ino == 0;
}

const char *netns_owner_name(enum netns_owner owner)
{
	switch (owner) {
	case OWNER_UNKNOWN:
		return "unknown";
	case OWNER_HOST:
		return "host";
	case OWNER_OTHER:
		return "other";
	}
	return "?";
}

void netns_view_done(struct netns_view *view)
{
	free(view->links);
	free(view->addresses);
	*view = (struct netns_view){ 0 };
}

static void strings_free(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void netns_done(struct netns *netns)
{
	strings_free(netns->names, netns->n_names);
	strings_free(netns->found, netns->n_found);
	free(netns->label);
	netns_view_done(&netns->view);
	*netns = (struct netns){ 0 };
}

void snapshot_done(struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->n_netns; i++)
		netns_done(&snapshot->netns[i]);
	free(snapshot->netns);
	for (size_t i = 0; i < snapshot->n_skipped; i++)
		free(snapshot->skipped[i].path);
	free(snapshot->skipped);
	*snapshot = (struct snapshot){ 0 };
}

static int compare_links(const void *pa, const void *pb)
{
	const struct ipip_link *a = pa, *b = pb;

	return a->ifindex < b->ifindex ? -1 : a->ifindex > b->ifindex;
}

static int compare_addresses(const void *pa, const void *pb)
{
	const struct netns_address *a = pa, *b = pb;

	if (a->ifindex != b->ifindex)
		return a->ifindex < b->ifindex ? -1 : 1;
	return ip4_compare(a->address, b->address);
}

void netns_view_sort(struct netns_view *view)
{
	/* qsort() with a NULL base is undefined even for no elements. */
	if (view->n_links > 0)
		qsort(view->links, view->n_links, sizeof(*view->links), compare_links);
	if (view->n_addresses > 0)
		qsort(view->addresses, view->n_addresses, sizeof(*view->addresses),
			compare_addresses);
}

static int compare_index_to_link(const void *pindex, const void *plink)
{
	const uint32_t *ifindex = pindex;
	const struct ipip_link *link = plink;

	return *ifindex < link->ifindex ? -1 : *ifindex > link->ifindex;
}

static bool has_link(const struct netns_view *view, uint32_t ifindex)
{
	return view->n_links > 0 && bsearch(&ifindex, view->links, view->n_links,
					    sizeof(*view->links), compare_index_to_link);
}

void netns_view_leave_out_newcomers(struct netns_view *view, struct netns_view *later)
{
	size_t n = 0;

	netns_view_sort(view);
	netns_view_sort(later);
	for (size_t i = 0; i < later->n_links; i++)
		if (!has_link(view, later->links[i].ifindex))
			later->links[n++] = later->links[i];
	later->n_links = n;
	if (n == 0)
		return;
	n = 0;
	for (size_t i = 0; i < view->n_addresses; i++)
		if (!has_link(later, view->addresses[i].ifindex))
			view->addresses[n++] = view->addresses[i];
	view->n_addresses = n;
}
