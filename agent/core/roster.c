/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/roster.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

void sightings_done(struct sightings *sightings)
{
	for (size_t i = 0; i < sightings->n; i++) {
		free(sightings->list[i].path);
		free(sightings->list[i].label);
	}
	free(sightings->list);
	for (size_t i = 0; i < sightings->n_skipped; i++)
		free(sightings->skipped[i].path);
	free(sightings->skipped);
	*sightings = (struct sightings){ 0 };
}

struct sighting *sightings_append(struct sightings *sightings)
{
	struct sighting *sighting = ARRAY_APPEND(sightings->list, sightings->n);

	if (!sighting)
		return NULL;
	sighting->nsid = NSID_NONE;
	sightings->n++;
	return sighting;
}

static int append_skipped(
	struct netns_skipped **list, size_t *n, const struct netns_skipped *skipped)
{
	struct netns_skipped *slot = ARRAY_APPEND(*list, *n);

	if (!slot)
		return -ENOMEM;
	*slot = *skipped;
	slot->path = strdup(skipped->path);
	if (!slot->path)
		return -ENOMEM;
	(*n)++;
	return 0;
}

int sightings_skip(
	struct sightings *sightings, const char *path, const char *reason, bool half_made)
{
	const struct netns_skipped skipped = {
		.path = (char *)path, .reason = reason, .half_made = half_made
	};

	if (sightings->n_skipped >= NETNS_SKIPPED_MAX) {
		sightings->n_skipped_more++;
		return 0;
	}
	return append_skipped(&sightings->skipped, &sightings->n_skipped, &skipped);
}

/* A sighting and the namespace that it is taken for. */
struct ref {
	int32_t nsid;
	const struct sighting *sighting;
};

static int compare_int(int64_t a, int64_t b)
{
	return a < b ? -1 : a > b;
}

/* By namespace; in each of them files by path, processes by pid, so that the order of a list is fixed. */
static int compare_refs(const void *pa, const void *pb)
{
	const struct ref *a = pa, *b = pb;
	int r = compare_int(a->nsid, b->nsid);

	if (r == 0)
		r = compare_int(a->sighting->kind, b->sighting->kind);
	if (r == 0 && a->sighting->kind == SIGHTING_FILE)
		return strcmp(a->sighting->path, b->sighting->path);
	return r != 0 ? r : compare_int(a->sighting->pid, b->sighting->pid);
}

/* How a file or a process was known before. */
struct memory {
	const char *found; /* NULL: by its inode */
	struct netns_id id;
	int32_t nsid;
};

static int compare_memories(const void *pa, const void *pb)
{
	const struct memory *a = pa, *b = pb;

	if (!a->found || !b->found) {
		int r = compare_int(!!a->found, !!b->found);

		if (r == 0)
			r = compare_int((int64_t)a->id.dev, (int64_t)b->id.dev);
		return r != 0 ? r : compare_int((int64_t)a->id.ino, (int64_t)b->id.ino);
	}
	return strcmp(a->found, b->found);
}

struct memories {
	struct memory *list;
	size_t n;
};

static void memories_done(struct memories *memories)
{
	free(memories->list);
}

static int remember(struct memories *memories, const struct memory *memory)
{
	struct memory *slot = ARRAY_APPEND(memories->list, memories->n);

	if (!slot)
		return -ENOMEM;
	*slot = *memory;
	memories->n++;
	return 0;
}

static int memories_make(const struct snapshot *old, struct memories *ret)
{
	_cleanup_(memories_done) struct memories memories = { 0 };
	int r = 0;

	for (size_t i = 0; i < old->n_netns; i++) {
		const struct netns *netns = &old->netns[i];
		struct memory memory = { .id = netns->id, .nsid = netns->nsid };

		/* Its number leads to another, or to none. */
		if (netns->is_renewed)
			continue;
		if (!netns_id_is_none(&netns->id))
			r = remember(&memories, &memory);
		for (size_t j = 0; r == 0 && j < netns->n_found; j++) {
			memory.found = netns->found[j];
			r = remember(&memories, &memory);
		}
		if (r < 0)
			return r;
	}
	if (memories.n > 0)
		qsort(memories.list, memories.n, sizeof(*memories.list), compare_memories);
	*ret = memories;
	memories = (struct memories){ 0 };
	return 0;
}

static int print_found(const struct sighting *sighting, char **ret)
{
	char *text;
	int r;

	if (sighting->kind == SIGHTING_FILE)
		r = asprintf(&text, "file %s", sighting->path);
	else
		r = asprintf(&text, "process %u", sighting->pid);
	if (r < 0)
		return -ENOMEM;
	*ret = text;
	return 0;
}

/* What it was before it could not be asked any more; NSID_NONE: nobody remembers. */
static int recall(
	const struct memories *memories, const struct sighting *sighting, int32_t *ret_nsid)
{
	_cleanup_free_ char *found = NULL;
	struct memory key = { .id = sighting->id };
	const struct memory *memory;

	if (netns_id_is_none(&sighting->id)) {
		if (print_found(sighting, &found) < 0)
			return -ENOMEM;
		key.found = found;
	}
	memory = memories->n > 0
			 ? bsearch(&key, memories->list, memories->n, sizeof(key), compare_memories)
			 : NULL;
	*ret_nsid = memory ? memory->nsid : NSID_NONE;
	return 0;
}

struct refs {
	struct ref *list; /* sorted, all with an nsid */
	size_t n;
	size_t n_unresolved;
};

static void refs_done(struct refs *refs)
{
	free(refs->list);
}

static int add_ref(struct refs *refs, const struct sighting *sighting, int32_t nsid)
{
	struct ref *slot;

	if (nsid == NSID_NONE) {
		refs->n_unresolved++;
		return 0;
	}
	slot = ARRAY_APPEND(refs->list, refs->n);
	if (!slot)
		return -ENOMEM;
	*slot = (struct ref){ nsid, sighting };
	refs->n++;
	return 0;
}

static int refs_make(const struct sightings *sources, size_t n_sources, int32_t own_nsid,
	const struct snapshot *old, struct refs *ret)
{
	_cleanup_(memories_done) struct memories memories = { 0 };
	_cleanup_(refs_done) struct refs refs = { 0 };
	bool remembered = false;
	int r = 0;

	for (size_t i = 0; i < n_sources; i++) {
		for (size_t j = 0; j < sources[i].n; j++) {
			const struct sighting *sighting = &sources[i].list[j];
			int32_t nsid = sighting->nsid;

			if (nsid == NSID_NONE && !remembered) {
				r = memories_make(old, &memories);
				remembered = true;
			}
			if (r == 0 && nsid == NSID_NONE)
				r = recall(&memories, sighting, &nsid);
			if (nsid == own_nsid && nsid != NSID_NONE)
				nsid = NSID_OWN;
			if (r == 0)
				r = add_ref(&refs, sighting, nsid);
			if (r < 0)
				return r;
		}
	}
	if (refs.n > 0)
		qsort(refs.list, refs.n, sizeof(*refs.list), compare_refs);
	*ret = refs;
	refs = (struct refs){ 0 };
	return 0;
}

static int compare_strings(const void *pa, const void *pb)
{
	return strcmp(*(const char *const *)pa, *(const char *const *)pb);
}

/* Sorted, each once: two directories may have files of one name. */
static void sort_names(struct netns *netns)
{
	size_t n = 0;

	if (netns->n_names < 2)
		return;
	qsort(netns->names, netns->n_names, sizeof(*netns->names), compare_strings);
	for (size_t i = 0; i < netns->n_names; i++) {
		if (n > 0 && strcmp(netns->names[n - 1], netns->names[i]) == 0)
			free(netns->names[i]);
		else
			netns->names[n++] = netns->names[i];
	}
	netns->n_names = n;
}

static int add_string(char ***list, size_t *n, const char *text)
{
	char **slot = ARRAY_APPEND(*list, *n);

	if (!slot)
		return -ENOMEM;
	*slot = strdup(text);
	if (!*slot)
		return -ENOMEM;
	(*n)++;
	return 0;
}

static int add_found(struct netns *netns, const struct sighting *sighting)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (sighting->kind == SIGHTING_NSID)
		return 0;
	r = print_found(sighting, &text);
	if (r == 0)
		r = add_string(&netns->found, &netns->n_found, text);
	if (r == 0 && sighting->name)
		r = add_string(&netns->names, &netns->n_names, sighting->name);
	if (r < 0 || !sighting->label || netns->label)
		return r;
	netns->label = strdup(sighting->label);
	return netns->label ? 0 : -ENOMEM;
}

/* The number is all there is to call it by. */
static int label_by_number(struct netns *netns)
{
	if (asprintf(&netns->label, "nsid-%d", netns->nsid) >= 0)
		return 0;
	netns->label = NULL;
	return -ENOMEM;
}

/* The kernel's word counts; of processes one in another user namespace is enough to doubt. */
static void merge_owner(struct netns *netns, const struct sighting *sighting, bool *certain)
{
	if (*certain || sighting->owner == OWNER_UNKNOWN)
		return;
	if (sighting->owner_is_certain) {
		netns->owner = sighting->owner;
		*certain = true;
	} else if (netns->owner != OWNER_OTHER) {
		netns->owner = sighting->owner;
	}
}

/* Who gives way to whom where there is not room for all: the last to the first. */
enum rank {
	RANK_TRUSTED, /* or might be, by a rule */
	RANK_UNKNOWN,
	RANK_OTHER,
};

/* A namespace as it was seen, and, once matched, the one of the old list that it is. */
struct member {
	struct netns netns;
	bool owner_is_certain;
	struct netns *known;
	enum rank rank;
};

struct roster {
	struct member *list;
	size_t n;
	size_t n_more, n_more_untrusted;
};

static void roster_done(struct roster *roster)
{
	for (size_t i = 0; i < roster->n; i++)
		netns_done(&roster->list[i].netns);
	free(roster->list);
}

static int add_own(struct roster *roster, const struct netns_id *own)
{
	struct member *member = ARRAY_APPEND(roster->list, roster->n);

	if (!member)
		return -ENOMEM;
	roster->n++;
	member->netns.nsid = NSID_OWN;
	member->netns.id = *own;
	member->netns.owner = OWNER_HOST; /* the agent's is the host's, by definition */
	member->owner_is_certain = true;
	return add_string(&member->netns.found, &member->netns.n_found, "the agent's own");
}

/* References are sorted, so those of one namespace are next to each other, and the own's come first. */
static int collect(const struct refs *refs, const struct netns_id *own, struct roster *roster)
{
	int r = add_own(roster, own);

	for (size_t i = 0; r == 0 && i < refs->n; i++) {
		const struct ref *ref = &refs->list[i];
		struct member *member = &roster->list[roster->n - 1];

		if (ref->nsid != member->netns.nsid) {
			member = ARRAY_APPEND(roster->list, roster->n);
			if (!member)
				return -ENOMEM;
			roster->n++;
			member->netns.nsid = ref->nsid;
		}
		if (netns_id_is_none(&member->netns.id))
			member->netns.id = ref->sighting->id;
		merge_owner(&member->netns, ref->sighting, &member->owner_is_certain);
		r = add_found(&member->netns, ref->sighting);
	}
	for (size_t i = 0; r == 0 && i < roster->n; i++) {
		struct netns *netns = &roster->list[i].netns;

		sort_names(netns);
		if (netns->n_found == 0)
			r = add_string(&netns->found, &netns->n_found, "nsid only");
	}
	return r;
}

static int compare_netns_pointers(const void *pa, const void *pb)
{
	const struct netns *a = *(const struct netns *const *)pa,
			   *b = *(const struct netns *const *)pb;

	return compare_int(a->nsid, b->nsid);
}

/* A number that was given back, or leads to another inode now, is another namespace's. */
static bool is_same(const struct netns *fresh, const struct netns *old)
{
	if (fresh->nsid != old->nsid || old->is_renewed)
		return false;
	return netns_id_is_none(&fresh->id) || netns_id_is_none(&old->id) ||
	       netns_id_equal(&fresh->id, &old->id);
}

/* Owners do not change while a namespace lives; only doubt is added. */
static void recognize(struct member *member, struct netns *known)
{
	member->known = known;
	if (!member->owner_is_certain &&
		(member->netns.owner == OWNER_UNKNOWN || known->owner == OWNER_OTHER))
		member->netns.owner = known->owner;
}

/* Both are sorted by nsid. */
static int match(struct roster *roster, struct snapshot *old)
{
	_cleanup_free_ struct netns **index = calloc(old->n_netns + 1, sizeof(*index));
	size_t j = 0;

	if (!index)
		return -ENOMEM;
	for (size_t i = 0; i < old->n_netns; i++)
		index[i] = &old->netns[i];
	qsort(index, old->n_netns, sizeof(*index), compare_netns_pointers);
	for (size_t i = 0; i < roster->n; i++) {
		struct member *member = &roster->list[i];

		while (j < old->n_netns && index[j]->nsid < member->netns.nsid)
			j++;
		if (j < old->n_netns && is_same(&member->netns, index[j]))
			recognize(member, index[j]);
	}
	return 0;
}

/* Whether somebody lives there who is called so. References are those of one namespace. */
static bool has_resident(const struct ref *refs, size_t n, const char *label)
{
	for (size_t i = 0; i < n; i++)
		if (refs[i].sighting->label && strcmp(refs[i].sighting->label, label) == 0)
			return true;
	return false;
}

/*
 * Who lives there: as long as that is true of anybody there it stays, and while nobody is seen it is who did last. Of
 * processes a source shows one that is known (agent/kern/procs.c); a file may lead by another.
 */
static int label(struct member *member, const struct ref *refs, size_t n_refs)
{
	struct netns *netns = &member->netns;
	const char *known = member->known ? member->known->label : NULL;
	char *copy;

	if (netns->nsid == NSID_OWN)
		return 0;
	if (known && (!netns->label || has_resident(refs, n_refs, known))) {
		copy = strdup(known);
		if (!copy)
			return -ENOMEM;
		free(netns->label);
		netns->label = copy;
	}
	return netns->n_names == 0 && !netns->label ? label_by_number(netns) : 0;
}

/* Both are sorted by nsid. */
static int label_all(struct roster *roster, const struct refs *refs)
{
	size_t first = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < roster->n; i++) {
		int32_t nsid = roster->list[i].netns.nsid;
		size_t n = 0;

		while (first < refs->n && refs->list[first].nsid < nsid)
			first++;
		while (first + n < refs->n && refs->list[first + n].nsid == nsid)
			n++;
		r = label(&roster->list[i], refs->list + first, n);
	}
	return r;
}

static int compare_names(const struct netns *a, const struct netns *b)
{
	if (!a->n_names || !b->n_names)
		return compare_int(!a->n_names, !b->n_names);
	return strcmp(a->names[0], b->names[0]);
}

/* The known by age; then the new ones, in an order that does not depend on that of the sources. */
static int compare_members(const void *pa, const void *pb)
{
	const struct member *a = pa, *b = pb;
	int r;

	if (a->known && b->known)
		return a->known->seq < b->known->seq ? -1 : a->known->seq > b->known->seq;
	if (a->known || b->known)
		return a->known ? -1 : 1;
	if (a->netns.nsid == NSID_OWN || b->netns.nsid == NSID_OWN)
		return a->netns.nsid == NSID_OWN ? -1 : 1;
	r = compare_names(&a->netns, &b->netns);
	return r != 0 ? r : compare_int(a->netns.nsid, b->netns.nsid);
}

static enum rank rank_of(const struct member *member, const struct config *config)
{
	if (member->netns.nsid == NSID_OWN || config_may_trust(config, &member->netns))
		return RANK_TRUSTED;
	return member->netns.owner == OWNER_OTHER ? RANK_OTHER : RANK_UNKNOWN;
}

static int compare_ranks(const void *pa, const void *pb)
{
	const struct member *a = pa, *b = pb;

	return a->rank != b->rank ? compare_int(a->rank, b->rank) : compare_members(pa, pb);
}

/*
 * Anybody can make namespaces, more than are looked at, so those that could contribute nothing give way to
 * those that might. Among their like, who was there first stays.
 */
static void cut(struct roster *roster, const struct roster_limit *limit)
{
	for (size_t i = 0; i < roster->n; i++)
		roster->list[i].rank = rank_of(&roster->list[i], limit->config);
	qsort(roster->list, roster->n, sizeof(*roster->list), compare_ranks);
	while (roster->n > limit->max) {
		struct member *member = &roster->list[--roster->n];

		netns_done(&member->netns);
		roster->n_more++;
		roster->n_more_untrusted += member->rank != RANK_TRUSTED;
	}
}

static void take_over(struct member *member)
{
	struct netns *netns = &member->netns, *known = member->known;

	netns->seq = known->seq;
	netns->has_view = known->has_view;
	netns->view = known->view;
	known->view = (struct netns_view){ 0 };
	netns->error = known->error;
	netns->is_stale = known->is_stale;
	netns->not_before = known->not_before;
	netns->failing_since = known->failing_since;
	netns->is_put_off = known->is_put_off;
	if (netns_id_is_none(&netns->id))
		netns->id = known->id;
}

static int gather_skipped(
	const struct sightings *sources, size_t n_sources, struct snapshot *snapshot)
{
	int r = 0;

	for (size_t i = 0; i < n_sources; i++) {
		for (size_t j = 0; r == 0 && j < sources[i].n_skipped; j++)
			r = append_skipped(
				&snapshot->skipped, &snapshot->n_skipped, &sources[i].skipped[j]);
		snapshot->n_skipped_more += sources[i].n_skipped_more;
		snapshot->n_more += sources[i].n_more;
		snapshot->n_more_untrusted += sources[i].n_more_untrusted;
	}
	return r;
}

static int compare_skipped(const void *pa, const void *pb)
{
	const struct netns_skipped *a = pa, *b = pb;

	return strcmp(a->path, b->path);
}

int roster_make(const struct sightings *sources, size_t n_sources, const struct netns_id *own,
	int32_t own_nsid, const struct roster_limit *limit, struct snapshot *old,
	uint64_t *next_seq, struct snapshot *ret)
{
	_cleanup_(snapshot_done) struct snapshot fresh = { 0 };
	_cleanup_(roster_done) struct roster roster = { 0 };
	_cleanup_(refs_done) struct refs refs = { 0 };
	int r;

	if ((r = gather_skipped(sources, n_sources, &fresh)) < 0 ||
		(r = refs_make(sources, n_sources, own_nsid, old, &refs)) < 0 ||
		(r = collect(&refs, own, &roster)) < 0 || (r = match(&roster, old)) < 0 ||
		(r = label_all(&roster, &refs)) < 0)
		return r;
	if (fresh.n_skipped > 0)
		qsort(fresh.skipped, fresh.n_skipped, sizeof(*fresh.skipped), compare_skipped);
	if (roster.n > limit->max)
		cut(&roster, limit);
	qsort(roster.list, roster.n, sizeof(*roster.list), compare_members);
	fresh.netns = calloc(roster.n, sizeof(*fresh.netns));
	if (!fresh.netns)
		return -ENOMEM;
	fresh.n_more += roster.n_more;
	fresh.n_more_untrusted += roster.n_more_untrusted;
	fresh.n_unresolved = refs.n_unresolved;
	for (size_t i = 0; i < roster.n; i++) {
		struct member *member = &roster.list[i];

		if (member->known)
			take_over(member);
		else
			member->netns.seq = (*next_seq)++;
		fresh.netns[fresh.n_netns++] = member->netns;
		member->netns = (struct netns){ 0 };
	}
	*ret = fresh;
	fresh = (struct snapshot){ 0 };
	return 0;
}
