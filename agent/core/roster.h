/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From what the sources saw (files, processes, the kernel's list of nsids) to namespaces, each once,
 * with all its names. Pure.
 */

#include "agent/core/config.h"
#include "agent/core/snapshot.h"

enum sighting_kind {
	SIGHTING_FILE,
	SIGHTING_PROCESS,
	SIGHTING_NSID, /* the kernel lists the number */
};

/* One way in which a namespace shows. */
struct sighting {
	enum sighting_kind kind;
	char *path;       /* of the file */
	const char *name; /* by which people know it: points into `path`; NULL: none */
	uint32_t pid;     /* of the process */
	int32_t nsid;     /* NSID_NONE: it cannot be asked for just now */
	struct netns_id id;
	enum netns_owner owner;
	bool owner_is_certain; /* the kernel was asked; else inferred from a process */
	char *label;
};

/* What one source saw. */
struct sightings {
	struct sighting *list;
	size_t n;
	struct netns_skipped *skipped; /* at most NETNS_SKIPPED_MAX */
	size_t n_skipped, n_skipped_more;
	size_t n_more;           /* namespaces beyond the limit */
	size_t n_more_untrusted; /* of them, those with a process in another user namespace */
	bool is_incomplete;      /* something could not be asked just now: look again */
};

void sightings_done(struct sightings *sightings);

/* The new element, zeroed but for .nsid = NSID_NONE, or NULL: no memory. */
struct sighting *sightings_append(struct sightings *sightings);

/* Notes a file that is no namespace. Takes no ownership of `path`. 0 or -ENOMEM. */
int sightings_skip(
	struct sightings *sightings, const char *path, const char *reason, bool half_made);

/* How many namespaces are looked at, and by what it is told whose place another has to give way to. */
struct roster_limit {
	size_t max;
	const struct config *config; /* its rules may admit what is another's */
};

/*
 * Makes a new snapshot's list of namespaces and of skipped files. The namespace of the agent is always
 * in it. Those that were in `old` keep their age, and what was read in them and is known of their
 * owner: `old` loses its views to the new one. The rest of the new snapshot is the caller's to fill in.
 *
 * `own`: the inode of the agent's namespace. `own_nsid`: its number in itself, NSID_NONE: it has none.
 * 0 or -ENOMEM, with nothing changed.
 */
int roster_make(const struct sightings *sources, size_t n_sources, const struct netns_id *own,
	int32_t own_nsid, const struct roster_limit *limit, struct snapshot *old,
	uint64_t *next_seq, struct snapshot *ret);
