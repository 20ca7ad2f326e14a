/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/core/tunnel.h"
#include "agent/kern/netns.h"
#include "agent/kern/procs.h"
#include "agent/observe.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/clock.h"

/*
 * A busy host rings all the time. The list is made anew after five times as long as it takes, /proc is
 * read after twenty times as long and not twice within SCAN_PAUSE: a fifth and a twentieth of one CPU.
 * What failed is not put off as long, as nothing is removed until it is read.
 */
#define LIST_SHARE 4
#define SCAN_SHARE 20
#define SCAN_PAUSE_USEC (250 * 1000)

/*
 * Whoever lives in a namespace may fill it and ring without end: after a read that took long none follows
 * for ten times as long, so that the others have nine tenths of the time. What is read fast is free.
 */
#define VIEW_SHARE 10
#define VIEW_FREE_USEC (20 * 1000)
#define VIEW_PAUSE_MAX_USEC (5 * 1000 * 1000)

/*
 * What fails is free once. After that its pause is as long however fast it was; and at least this long where it may not
 * count, for he may tear every dump, and nobody waits for it.
 */
#define VIEW_TORN_PAUSE_USEC (100 * 1000)

/*
 * Nobody knows whose it is, nor what is in it. It might be the host's, and what it sends as IPIP is waited for. But any user
 * can have one of which that is true, and keep it from being read: not for ever, then.
 */
#define UNREAD_MAX_USEC (30 * 1000 * 1000)

/* A number that changes hands while a list is made makes another one, not without end. */
#define LISTS_MORE 2

/* A file that may be a namespace being made is looked at again so often, after twice as long each time. */
#define HALF_MADE_TRIES 5
#define HALF_MADE_USEC (50 * 1000)

/*
 * What reading takes is taken of our processor time, as the kernel lists on our account. What others have of the
 * processor meanwhile, or a machine that stands still, makes no pause longer.
 */
static uint64_t spent_usec(void)
{
	return clock_usec(CLOCK_THREAD_CPUTIME_ID);
}

void observer_init(struct observer *observer, struct rtnl *rtnl)
{
	*observer = (struct observer){
		.rtnl = rtnl,
		.nsid_bell_fd = -1,
		.own_nsid = NSID_NONE,
		.noted_own_nsid = NSID_NONE,
		.netns_max = NETNS_MAX,
		.view_free_usec = VIEW_FREE_USEC,
		.unread_max_usec = UNREAD_MAX_USEC,
		.listing_took = UINT64_MAX,
		.sources = {
			[OBSERVE_FILES] = { .name = NETNS_DIR },
			[OBSERVE_DOCKER] = { .name = NETNS_DIR_DOCKER },
			[OBSERVE_PROCESSES] = { .name = "/proc" },
			[OBSERVE_NSIDS] = { .name = "nsids" },
		},
	};
	observer_ring_all(observer);
}

void observer_done(struct observer *observer)
{
	snapshot_done(&observer->snapshot);
	free(observer->by_nsid);
	for (size_t i = 0; i < OBSERVE_COUNT; i++)
		sightings_done(&observer->sightings[i]);
	closep(&observer->nsid_bell_fd);
	*observer = OBSERVER_NONE;
}

void observer_ring_list(struct observer *observer)
{
	observer->list_is_stale = true;
	observer->files_are_stale = true;
	observer->processes_are_stale = true;
}

void observer_ring_all(struct observer *observer)
{
	observer_ring_list(observer);
	observer->views_are_stale = true;
}

static int compare_nsids(const void *pa, const void *pb)
{
	const struct netns *a = *(const struct netns *const *)pa,
			   *b = *(const struct netns *const *)pb;

	return a->nsid < b->nsid ? -1 : a->nsid > b->nsid;
}

static struct netns *find_netns(const struct observer *observer, int32_t nsid)
{
	const struct netns key = { .nsid = nsid }, *pointer = &key;
	struct netns **found = NULL;

	if (observer->by_nsid)
		found = bsearch(&pointer, observer->by_nsid, observer->snapshot.n_netns,
			sizeof(*found), compare_nsids);
	return found ? *found : NULL;
}

static bool ring_nsids(struct observer *observer, const struct bell *bell)
{
	struct netns *netns = find_netns(observer, bell->changed_nsid);

	/* What it means hear() finds out: here it may be late, and the number be another's who was seen since. */
	if (bell->nsid_taken)
		return netns;
	if (netns && !netns->is_renewed) /* we gave it, most likely */
		return false;
	/* Who gets a number is somebody's new neighbour; /proc tells who. */
	observer->list_is_stale = observer->processes_are_stale = true;
	return true;
}

static bool ring_netns(struct observer *observer, int32_t nsid)
{
	struct netns *netns = find_netns(observer, nsid);

	if (netns)
		netns->is_stale = true;
	else if (observer->snapshot.n_more == 0) /* one that is not listed yet */
		observer->list_is_stale = true;
	return netns || observer->list_is_stale;
}

bool observer_ring(struct observer *observer, const struct bell *bell)
{
	bool news = bell->overrun || bell->veth_changed;

	if (bell->overrun) {
		observer_ring_list(observer);
		observer->views_are_doubtful = true;
		observer->was_overrun = true;
	}
	if (bell->nsid_given || bell->nsid_taken)
		news = ring_nsids(observer, bell) || news;
	if (bell->veth_changed)
		observer->processes_are_stale = true;
	if (bell->netns_changed)
		news = ring_netns(observer, bell->nsid) || news;
	return news;
}

/* What became of the numbers since it was last asked. */
struct hearing {
	struct observer *observer;
	const struct config *config;
	bool trusted; /* one of somebody who may count was given back */
	bool lost;    /* there is more, nobody knows what */
};

static void hear_one(const struct bell *bell, void *userdata)
{
	struct hearing *hearing = userdata;
	struct observer *observer = hearing->observer;
	struct netns *netns = bell->nsid_taken ? find_netns(observer, bell->changed_nsid) : NULL;

	if (bell->overrun) {
		hearing->lost = true;
		(void)observer_ring(observer, bell);
	}
	if (!netns)
		return;
	hearing->trusted = hearing->trusted || config_may_trust(hearing->config, netns);
	/*
	 * What led to it leads elsewhere now, or nowhere. Or the number was given to another before this was heard of,
	 * and that one was seen since: so look again, or it would be nobody's until something else rings.
	 */
	netns->is_renewed = observer->list_is_stale = observer->files_are_stale =
		observer->processes_are_stale = true;
}

/*
 * The kernel takes a number back, tells so, and only then has it for the next (but for a few instructions:
 * net/core/net_namespace.c, unhash_nsid()). So what was read by numbers is of those who had them at the list, but for the
 * numbers that are heard of here. Without the index nobody is found by his number, so that nothing was heard. Returns
 * whether it may matter to anybody.
 */
static bool hear(struct observer *observer, const struct config *config)
{
	const struct bell deaf = { .nsid = NSID_OWN, .overrun = true };
	struct hearing hearing = { observer, config, false, false };

	if (events_read(observer->nsid_bell_fd, EVENTS_NSIDS, NSID_NONE, hear_one, &hearing) < 0 ||
		(!observer->by_nsid && observer->snapshot.n_netns > 0))
		hear_one(&deaf, &hearing);
	observer->snapshot.is_doubtful = hearing.lost;
	return hearing.trusted || hearing.lost;
}

/* What a source saw replaces what it saw before; if it sees nothing just now, that holds. */
static void look(
	struct observer *observer, enum observer_source source, struct sightings *fresh, int r)
{
	observer->sources[source].error = r;
	if (r < 0)
		return;
	observer->sources[source].was_read = true;
	sightings_done(&observer->sightings[source]);
	observer->sightings[source] = *fresh;
}

/*
 * Docker keeps all but root out. What was never seen there cannot be missed: whatever an agent once wrote a row
 * for has a number since, and the kernel lists it by that.
 */
static int skip_closed(
	const struct observer *observer, enum observer_source source, struct sightings *fresh)
{
	if (observer->sightings[source].n > 0)
		return -EACCES;
	return sightings_skip(fresh, observer->sources[source].name,
		"this user may not look into it; namespaces there are found by processes and numbers only",
		false);
}

static int look_at_files(
	struct observer *observer, const struct procs *procs, enum observer_source source)
{
	struct sightings fresh = { 0 };
	int r;

	r = netns_find(
		observer->rtnl, procs, observer->sources[source].name, &observer->own, &fresh);
	if (r == -EACCES)
		r = skip_closed(observer, source, &fresh);
	look(observer, source, &fresh, r);
	return r;
}

static const char *known_label(int32_t nsid, void *userdata)
{
	const struct netns *netns = find_netns(userdata, nsid);

	return netns && !netns->is_renewed ? netns->label : NULL;
}

static int look_at_processes(struct observer *observer, const struct procs *procs)
{
	struct sightings fresh = { 0 };
	uint64_t begin = spent_usec(), pause;
	int r;

	r = procs_find(procs, observer->rtnl, observer->netns_max, known_label, observer, &fresh);
	look(observer, OBSERVE_PROCESSES, &fresh, r);
	pause = (r < 0 ? LIST_SHARE : SCAN_SHARE) * (spent_usec() - begin);
	observer->scan_not_before =
		monotonic_usec() + (pause > SCAN_PAUSE_USEC ? pause : SCAN_PAUSE_USEC);
	return r;
}

static int look_at_nsids(struct observer *observer)
{
	_cleanup_(sightings_done) struct sightings fresh = { 0 };
	_cleanup_free_ int32_t *nsids = NULL;
	size_t n = 0;
	int r;

	r = rtnl_list_nsids(observer->rtnl, &nsids, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct sighting *sighting = sightings_append(&fresh);

		if (!sighting)
			return -ENOMEM;
		sighting->kind = SIGHTING_NSID;
		sighting->nsid = nsids[i];
	}
	look(observer, OBSERVE_NSIDS, &fresh, r);
	if (r == 0)
		fresh = (struct sightings){ 0 };
	return r;
}

static int compare_sightings(const void *pa, const void *pb)
{
	const struct sighting *a = pa, *b = pb;

	return a->nsid < b->nsid ? -1 : a->nsid > b->nsid;
}

/* In the kernel's list, which is sorted in its first `n`. */
static bool is_listed(const struct sightings *nsids, size_t n, int32_t nsid)
{
	const struct sighting key = { .nsid = nsid };

	return n > 0 && bsearch(&key, nsids->list, n, sizeof(key), compare_sightings);
}

/* A list of many parts may have missed one: only a clear answer means that a namespace is gone. */
static int ask_for_missing(struct observer *observer)
{
	struct sightings *nsids = &observer->sightings[OBSERVE_NSIDS];
	const struct snapshot *snapshot = &observer->snapshot;
	size_t n = nsids->n;
	int r;

	for (size_t i = 0; i < snapshot->n_netns; i++) {
		const struct netns *netns = &snapshot->netns[i];
		struct sighting *sighting;

		if (netns->nsid == NSID_OWN || netns->is_renewed ||
			is_listed(nsids, n, netns->nsid))
			continue;
		r = rtnl_check_nsid(observer->rtnl, netns->nsid);
		if (r == -ENOENT)
			continue;
		nsids->is_incomplete = nsids->is_incomplete || r < 0;
		sighting = sightings_append(nsids);
		if (!sighting)
			return -ENOMEM;
		sighting->kind = SIGHTING_NSID;
		sighting->nsid = netns->nsid;
	}
	if (nsids->n > 0)
		qsort(nsids->list, nsids->n, sizeof(*nsids->list), compare_sightings);
	return 0;
}

/* What a source saw some time ago may be gone, and its number be another's. */
static void drop_gone(struct observer *observer, enum observer_source source)
{
	const struct sightings *nsids = &observer->sightings[OBSERVE_NSIDS];
	struct sightings *sightings = &observer->sightings[source];
	size_t n = 0;

	for (size_t i = 0; i < sightings->n; i++) {
		struct sighting *sighting = &sightings->list[i];
		const struct netns *netns = find_netns(observer, sighting->nsid);

		if (sighting->nsid >= 0 && (!is_listed(nsids, nsids->n, sighting->nsid) ||
						   (netns && netns->is_renewed))) {
			free(sighting->path);
			free(sighting->label);
			continue;
		}
		sightings->list[n++] = *sighting;
	}
	sightings->n = n;
}

static int look_everywhere(struct observer *observer, bool files, bool *ret_scanned)
{
	_cleanup_(procs_done) struct procs procs = PROCS_NONE;
	bool scan = observer->processes_are_stale &&
		    (observer->was_overrun || monotonic_usec() >= observer->scan_not_before);
	int r, result;

	r = result = netns_own(observer->rtnl, &observer->own, &observer->own_nsid);
	if (r == 0)
		r = result = procs_open(&procs);
	if (r < 0)
		return r;
	for (enum observer_source i = OBSERVE_FILES; files && i <= OBSERVE_DOCKER; i++)
		if ((r = look_at_files(observer, &procs, i)) < 0)
			result = r;
	if (scan && (r = look_at_processes(observer, &procs)) < 0)
		result = r;
	/* A process that came home before its namespace's number was asked for has just given the agent's own one. */
	if (scan && observer->own_nsid == NSID_NONE &&
		(r = netns_own(observer->rtnl, &observer->own, &observer->own_nsid)) < 0)
		return r;
	/* Last, for the others give out numbers. */
	if ((r = look_at_nsids(observer)) < 0 || (r = ask_for_missing(observer)) < 0)
		return r;
	if (!scan)
		drop_gone(observer, OBSERVE_PROCESSES);
	for (enum observer_source i = OBSERVE_FILES; !files && i <= OBSERVE_DOCKER; i++)
		drop_gone(observer, i);
	*ret_scanned = scan;
	return result == -ENOMEM ? -ENOMEM : 0;
}

/*
 * When to look again at files that may become namespaces: it gets rarer, and ends. Mounting over them
 * rings as well. Both lists are sorted by path.
 */
static uint64_t count_tries(const struct snapshot *old, struct snapshot *fresh, bool looked)
{
	unsigned int tries = HALF_MADE_TRIES;
	size_t j = 0;

	for (size_t i = 0; i < fresh->n_skipped; i++) {
		struct netns_skipped *skipped = &fresh->skipped[i];

		if (!skipped->half_made)
			continue;
		while (j < old->n_skipped && strcmp(old->skipped[j].path, skipped->path) < 0)
			j++;
		if (j < old->n_skipped && strcmp(old->skipped[j].path, skipped->path) == 0 &&
			old->skipped[j].half_made)
			skipped->tries = old->skipped[j].tries + looked;
		if (skipped->tries < tries)
			tries = skipped->tries;
	}
	return tries < HALF_MADE_TRIES ? monotonic_usec() + ((uint64_t)HALF_MADE_USEC << tries) : 0;
}

static int index_list(const struct snapshot *snapshot, struct netns ***ret)
{
	struct netns **index = calloc(snapshot->n_netns, sizeof(*index));

	if (!index)
		return -ENOMEM;
	for (size_t i = 0; i < snapshot->n_netns; i++)
		index[i] = &snapshot->netns[i];
	qsort(index, snapshot->n_netns, sizeof(*index), compare_nsids);
	*ret = index;
	return 0;
}

/* Messages were lost, so a number may have changed hands unheard: nobody is trusted on its account. */
static void forget_owners(struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->n_netns; i++)
		if (snapshot->netns[i].owner == OWNER_HOST)
			snapshot->netns[i].owner = OWNER_UNKNOWN;
}

static int replace_list(
	struct observer *observer, const struct config *config, bool looked_at_files)
{
	const struct roster_limit limit = { observer->netns_max, config };
	_cleanup_(snapshot_done) struct snapshot fresh = { 0 };
	struct netns **index;
	int r;

	r = roster_make(observer->sightings, OBSERVE_COUNT, &observer->own, observer->own_nsid,
		&limit, &observer->snapshot, &observer->next_seq, &fresh);
	if (r < 0)
		return r;
	observer->look_again_at = count_tries(&observer->snapshot, &fresh, looked_at_files);
	/* The old views went to the new list, so there is no way back. */
	snapshot_done(&observer->snapshot);
	free(observer->by_nsid);
	observer->by_nsid = NULL;
	observer->snapshot = fresh;
	fresh = (struct snapshot){ 0 };
	if (index_list(&observer->snapshot, &index) < 0)
		return -EAGAIN;
	observer->by_nsid = index;
	return 0;
}

static bool is_incomplete(const struct observer *observer)
{
	bool incomplete = false;

	for (size_t i = 0; i < OBSERVE_COUNT; i++)
		incomplete = incomplete || observer->sightings[i].is_incomplete ||
			     observer->sources[i].error < 0;
	return incomplete;
}

static int make_list(struct observer *observer, const struct config *config)
{
	uint64_t begin = spent_usec();
	bool files, scanned = false;
	int r;

	files = observer->files_are_stale || observer->list_is_incomplete ||
		(observer->look_again_at > 0 && monotonic_usec() >= observer->look_again_at);
	r = look_everywhere(observer, files, &scanned);
	/* What rang under a number that nobody knew to be ours was taken for another's. */
	if (observer->own_nsid != observer->noted_own_nsid)
		observer->own_was_numbered = observer->views_are_stale = true;
	observer->noted_own_nsid = observer->own_nsid;
	if (r < 0)
		return r;
	if (scanned && observer->was_overrun)
		forget_owners(&observer->snapshot);
	r = replace_list(observer, config, files);
	if (r < 0)
		return r;
	/* Otherwise it is looked at again, after the pause. */
	if (scanned && observer->sources[OBSERVE_PROCESSES].error == 0 &&
		!observer->sightings[OBSERVE_PROCESSES].is_incomplete) {
		observer->processes_are_stale = false;
		observer->was_overrun = false;
	}
	observer->list_not_before = monotonic_usec() + LIST_SHARE * (spent_usec() - begin);
	observer->list_is_stale = false;
	observer->list_is_incomplete = is_incomplete(observer);
	observer->files_are_stale = false;
	return 0;
}

/* 0; -EAGAIN: there may be a new list, without its views; other -errno: the old list holds. */
static int refresh_list(struct observer *observer, const struct config *config)
{
	int r = make_list(observer, config);

	observer->list_has_failed = r < 0;
	return r;
}

static uint64_t next_view(const struct observer *observer, uint64_t took, bool is_free)
{
	uint64_t pause = VIEW_SHARE * took;

	if (is_free && took < observer->view_free_usec)
		return 0;
	return monotonic_usec() + (pause < VIEW_PAUSE_MAX_USEC ? pause : VIEW_PAUSE_MAX_USEC);
}

static int refresh_view(struct observer *observer, struct netns *netns)
{
	bool failed_before = netns->error < 0;
	uint64_t begin = spent_usec();
	struct netns_view view;
	int r;

	r = rtnl_read_netns(observer->rtnl, netns->nsid, &view);
	netns->not_before = next_view(observer, spent_usec() - begin, r == 0 || !failed_before);
	if (r < 0) {
		/* Most likely it is going away; a fresh list will tell. The old view holds meanwhile. */
		netns->error = r;
		if (netns->failing_since == 0)
			netns->failing_since = monotonic_usec();
		return r;
	}
	netns_view_done(&netns->view);
	netns->view = view;
	netns->has_view = true;
	netns->error = 0;
	netns->failing_since = 0;
	netns->is_put_off = false;
	netns->is_stale = false;
	return 0;
}

static bool view_is_stale(const struct netns *netns)
{
	return netns->is_stale || !netns->has_view || netns->error < 0;
}

/*
 * Whoever rings without end makes events get lost as well, so that must not end the pause of what costs. But a
 * number may have changed hands unheard, and a view of before be taken for the successor's: only one that
 * counts for nothing, whoever's it is, or none, may stay for a while.
 */
static bool may_pause(
	const struct observer *observer, const struct config *config, const struct netns *netns)
{
	if (observer->views_are_stale)
		return false;
	return !observer->views_are_doubtful ||
	       !(netns->has_view && tunnels_view_counts(&netns->view, config));
}

/*
 * Whether it is known whose it is, or what it held, or has been waited for long enough. A passed time alone would not do for a
 * namespace that was never tried.
 */
static bool is_known(
	const struct observer *observer, const struct config *config, const struct netns *netns)
{
	return netns->has_view || netns->owner == OWNER_OTHER ||
	       (!config_may_trust(config, netns) && netns->failing_since > 0 &&
		       monotonic_usec() - netns->failing_since > observer->unread_max_usec);
}

/*
 * Whether a pass is whole without reading it now: what is there may not count, and it is known. summarize() minds the rest.
 * What an unread view may change is said in docs/ARCHITECTURE.md, Trust.
 */
static bool may_go_unread(
	const struct observer *observer, const struct config *config, const struct netns *netns)
{
	return !config_may_trust(config, netns) && is_known(observer, config, netns);
}

static void put_off(struct netns *netns)
{
	uint64_t earliest = monotonic_usec() + VIEW_TORN_PAUSE_USEC;

	netns->is_stale = netns->is_put_off = true;
	if (netns->not_before < earliest)
		netns->not_before = earliest;
}

/* 0; -EAGAIN: one changed while it was read; -ESTALE: one could not be read. */
static int refresh_view_when_due(
	struct observer *observer, const struct config *config, struct netns *netns)
{
	int r;

	netns->is_put_off = netns->error < 0 && may_go_unread(observer, config, netns);
	if (monotonic_usec() < netns->not_before && may_pause(observer, config, netns))
		return netns->error < 0 && !netns->is_put_off ? -EAGAIN : 0;
	r = refresh_view(observer, netns);
	if (r < 0 && may_go_unread(observer, config, netns)) {
		put_off(netns);
		return 0;
	}
	return r == 0 || r == -EAGAIN ? r : -ESTALE;
}

/* The same of all of them. */
static int refresh_views(struct observer *observer, const struct config *config)
{
	bool all = observer->views_are_stale || observer->views_are_doubtful;
	struct snapshot *snapshot = &observer->snapshot;
	int result = 0;

	for (size_t i = 0; i < snapshot->n_netns; i++) {
		struct netns *netns = &snapshot->netns[i];
		int r;

		netns->is_stale = netns->is_stale || all;
		/* Who has its number now must not be read on its account: the list comes first. */
		if (!view_is_stale(netns) || netns->is_renewed)
			continue;
		r = refresh_view_when_due(observer, config, netns);
		if (r < 0 && result != -ESTALE)
			result = r;
	}
	observer->views_are_stale = observer->views_are_doubtful = false;
	return result;
}

static void summarize(struct observer *observer, const struct config *config)
{
	struct snapshot *snapshot = &observer->snapshot;
	bool complete = snapshot->n_netns > 0 && snapshot->n_more == snapshot->n_more_untrusted &&
			snapshot->n_unresolved == 0;

	/* A guest can keep us from reading, by changes without end: the core minds those that count. */
	for (size_t i = 0; i < snapshot->n_netns; i++)
		complete = complete && is_known(observer, config, &snapshot->netns[i]);
	/* A process that could not be asked may be all that says whose its namespace is. Later, memory does. */
	if (observer->sightings[OBSERVE_PROCESSES].is_incomplete && !observer->was_complete)
		complete = false;
	for (size_t i = 0; i < OBSERVE_COUNT; i++) {
		complete = complete && observer->sources[i].was_read;
		snapshot->sources[i] = observer->sources[i];
	}
	snapshot->n_sources = OBSERVE_COUNT;
	snapshot->complete = complete;
	observer->was_complete = observer->was_complete || complete;
}

static bool list_is_due(const struct observer *observer)
{
	uint64_t now = monotonic_usec();

	if (observer->views_are_stale || observer->views_are_doubtful)
		return true;
	if ((observer->list_is_stale || observer->list_is_incomplete) &&
		now >= observer->list_not_before)
		return true;
	if (observer->look_again_at > 0 && now >= observer->look_again_at)
		return true;
	return observer->processes_are_stale &&
	       (observer->was_overrun || now >= observer->scan_not_before);
}

/* 0; -EAGAIN, -ESTALE: of refresh_views(); other -errno: the old list holds. */
static int read_again(struct observer *observer, const struct config *config)
{
	int r = refresh_list(observer, config);

	return r < 0 ? r : refresh_views(observer, config);
}

/* 0; -EAGAIN; other -errno: nothing was changed. */
static int read_stale(struct observer *observer, const struct config *config)
{
	int r = 0;

	if (list_is_due(observer))
		r = refresh_list(observer, config);
	if (r < 0 && r != -EAGAIN)
		return r;
	if (r == 0)
		r = refresh_views(observer, config);
	/* Those that went while they were read are no failure: once more without them. */
	if (r == -ESTALE)
		r = read_again(observer, config);
	return r < 0 ? -EAGAIN : 0;
}

bool observer_takes_longer(const struct observer *observer, uint64_t usec)
{
	return list_is_due(observer) && observer->listing_took > usec;
}

int observer_refresh(struct observer *observer, const struct config *config)
{
	uint64_t begin = monotonic_usec();
	bool lists = list_is_due(observer), unsure;
	int r = 0;

	if (observer->nsid_bell_fd < 0)
		r = events_open(EVENTS_NSIDS, 0, &observer->nsid_bell_fd);
	if (r < 0)
		return r;
	(void)hear(observer, config);
	r = read_stale(observer, config);
	if (r < 0 && r != -EAGAIN)
		return r;
	unsure = hear(observer, config);
	for (int i = 0; unsure && i < LISTS_MORE; i++) {
		r = read_again(observer, config);
		unsure = hear(observer, config);
	}
	summarize(observer, config);
	if (lists)
		observer->listing_took = monotonic_usec() - begin;
	return r < 0 || unsure || observer->list_is_incomplete ? -EAGAIN : 0;
}

/* A pass of its own for it? What has failed makes the pass fail, which is repeated ever more rarely. */
static bool is_awaited(const struct netns *netns)
{
	return view_is_stale(netns) && netns->not_before > 0 &&
	       (netns->error == 0 || netns->is_put_off);
}

static void earlier(uint64_t *due, uint64_t time)
{
	if (time > 0 && (*due == 0 || time < *due))
		*due = time;
}

uint64_t observer_due(const struct observer *observer)
{
	uint64_t due = 0;

	if (!observer->list_has_failed) {
		due = observer->look_again_at;
		if (observer->list_is_stale)
			earlier(&due, observer->list_not_before);
		if (observer->processes_are_stale)
			earlier(&due, observer->scan_not_before);
	}
	for (size_t i = 0; i < observer->snapshot.n_netns; i++) {
		const struct netns *netns = &observer->snapshot.netns[i];

		if (is_awaited(netns))
			earlier(&due, netns->not_before);
	}
	return due;
}
