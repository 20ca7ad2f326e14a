/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/core/proc_text.h"
#include "agent/kern/netns.h"
#include "agent/kern/procs.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"

#define KEY_ANY 0 /* no inode has that number */

#define TEXT_MAX 16384 /* of cgroup and uid_map: 340 lines of the latter fit, the kernel's limit */

/*
 * A number for the namespace that a process is in: the inode of a directory that each namespace has one
 * of below /proc/PID/net (fs/proc/proc_net.c, proc_net_ns_init()). It takes no right over the process, and
 * is good for one purpose only: to tell which processes share a namespace at this moment.
 */
static int procs_key(int directory, const char *prefix, uint64_t *ret)
{
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%snet/stat", prefix);
	if (fstatat(directory, path, &st, 0) < 0)
		return -errno;
	*ret = st.st_ino;
	return 0;
}

/* Ended, or hidden from us (hidepid= of proc(5)): in either case it tells nothing. */
static bool is_gone(int r)
{
	return r == -ENOENT || r == -ESRCH || r == -EACCES || r == -EPERM;
}

/* It was not looked at, for what this agent or the kernel is short of just now: that tells nothing of the process. */
static bool is_shortage(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EINTR || r == -EIO;
}

static int read_text(int directory, const char *name, char **ret)
{
	size_t size;

	return file_read_at(directory, name, TEXT_MAX, ret, &size);
}

void procs_done(struct procs *procs)
{
	closep(&procs->fd);
	free(procs->uid_map);
	*procs = PROCS_NONE;
}

int procs_open(struct procs *ret)
{
	_cleanup_(procs_done) struct procs procs = PROCS_NONE;
	int r;

	procs.fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (procs.fd < 0)
		return -errno;
	r = procs_key(procs.fd, "self/", &procs.own);
	if (r == 0)
		r = read_text(procs.fd, "self/uid_map", &procs.uid_map);
	if (r < 0)
		return r;
	*ret = procs;
	procs = PROCS_NONE;
	return 0;
}

/* Whose process it is, as far as its user namespace tells. */
static int guess_owner(const struct procs *procs, int directory, enum netns_owner *ret)
{
	_cleanup_free_ char *map = NULL;
	int r = read_text(directory, "uid_map", &map);

	if (is_shortage(r))
		return r;
	if (r < 0)
		*ret = OWNER_UNKNOWN;
	else
		*ret = proc_same_uid_map(procs->uid_map, map) ? OWNER_HOST : OWNER_OTHER;
	return 0;
}

static int read_label(int directory, char **ret)
{
	_cleanup_free_ char *cgroup = NULL, *comm = NULL;
	char label[PROC_LABEL_MAX];
	int r;

	r = read_text(directory, "cgroup", &cgroup);
	if (r == 0)
		r = proc_label_from_cgroup(cgroup, label);
	if (r < 0 && !is_shortage(r))
		r = read_text(directory, "comm", &comm);
	if (r == 0 && comm)
		r = proc_label_from_comm(comm, label);
	if (r < 0)
		return is_shortage(r) ? r : 0;
	*ret = strdup(label);
	return *ret ? 0 : -ENOMEM;
}

/* Where we may ptrace the process after all, the kernel says it for certain. */
static void look_inside(int directory, struct sighting *sighting)
{
	_cleanup_close_ int fd = openat(directory, "ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || netns_identify(fd, &sighting->id) < 0)
		return;
	sighting->owner_is_certain = netns_owner_of(fd, &sighting->owner) == 0;
}

/*
 * The key is the same before and after: it is this process that was asked about, and it did not move.
 * The user namespace is looked at last, for a process only ever goes further in: it may make both.
 * `key`: that of the namespace that it must still be in; KEY_ANY: in whichever it is.
 */
static int ask(const struct procs *procs, struct rtnl *rtnl, int directory, uint32_t pid,
	uint64_t key, struct sighting *sighting)
{
	uint64_t before, after;
	int32_t nsid = NSID_OWN;
	int r;

	r = procs_key(directory, "", &before);
	if (r == 0 && key != KEY_ANY && before != key)
		return -ESRCH;
	if (r == 0 && before != procs->own) {
		look_inside(directory, sighting);
		r = rtnl_get_nsid_of_process(rtnl, pid, &nsid);
	}
	if (r == 0 && !sighting->owner_is_certain)
		r = guess_owner(procs, directory, &sighting->owner);
	if (r == 0)
		r = procs_key(directory, "", &after);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	if (before != after)
		return -ESRCH;
	sighting->nsid = nsid;
	return 0;
}

static int look_at(const struct procs *procs, struct rtnl *rtnl, int directory, uint32_t pid,
	uint64_t key, struct sighting *sighting)
{
	struct sighting found = { .kind = SIGHTING_PROCESS, .pid = pid, .nsid = NSID_NONE };
	int r;

	r = ask(procs, rtnl, directory, pid, key, &found);
	if (r == 0)
		r = read_label(directory, &found.label);
	if (r < 0)
		return r;
	*sighting = found;
	return 0;
}

int procs_look_at(const struct procs *procs, struct rtnl *rtnl, int directory, uint32_t pid,
	struct sighting *sighting)
{
	return look_at(procs, rtnl, directory, pid, KEY_ANY, sighting);
}

static int open_process(const struct procs *procs, uint32_t pid)
{
	char name[16];
	int fd;

	(void)snprintf(name, sizeof(name), "%u", pid);
	fd = openat(procs->fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

int procs_look(
	const struct procs *procs, struct rtnl *rtnl, uint32_t pid, struct sighting *sighting)
{
	_cleanup_close_ int directory = open_process(procs, pid);

	if (directory < 0)
		return directory;
	return procs_look_at(procs, rtnl, directory, pid, sighting);
}

/* A process in another namespace than the agent's. */
struct resident {
	uint64_t key;
	uint32_t pid;
};

struct residents {
	struct resident *list;
	size_t n;
};

static void residents_done(struct residents *residents)
{
	free(residents->list);
}

static int compare_residents(const void *pa, const void *pb)
{
	const struct resident *a = pa, *b = pb;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->pid < b->pid ? -1 : a->pid > b->pid;
}

/* One system call for each process of the agent's own namespace, which are most. */
static int add_resident(const struct procs *procs, const char *name, struct residents *residents)
{
	struct resident *slot;
	char prefix[32];
	uint64_t key;
	int r;

	(void)snprintf(prefix, sizeof(prefix), "%.16s/", name);
	r = procs_key(procs->fd, prefix, &key);
	if (r < 0)
		return is_gone(r) ? 0 : r;
	if (key == procs->own)
		return 0;
	slot = ARRAY_APPEND(residents->list, residents->n);
	if (!slot)
		return -ENOMEM;
	*slot = (struct resident){ key, (uint32_t)strtoul(name, NULL, 10) };
	residents->n++;
	return 0;
}

static int find_residents(const struct procs *procs, struct residents *ret)
{
	_cleanup_(residents_done) struct residents residents = { 0 };
	_cleanup_(closedirp) DIR *dir = opendir("/proc");
	struct dirent *entry;
	int r;

	if (!dir)
		return -errno;
	for (;;) {
		errno = 0;
		entry = readdir(dir);
		if (!entry && errno != 0)
			return -errno;
		if (!entry)
			break;
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		r = add_resident(procs, entry->d_name, &residents);
		if (r < 0)
			return r;
	}
	if (residents.n > 0)
		qsort(residents.list, residents.n, sizeof(*residents.list), compare_residents);
	*ret = residents;
	residents = (struct residents){ 0 };
	return 0;
}

/* Further processes of a namespace: one of another user namespace is enough to doubt all. 0, or -errno of a shortage. */
static int look_for_others(
	const struct procs *procs, const struct resident *resident, struct sighting *sighting)
{
	_cleanup_close_ int directory = -1;
	enum netns_owner owner;
	uint64_t key;
	int r;

	if (sighting->owner_is_certain || sighting->owner == OWNER_OTHER)
		return 0;
	directory = open_process(procs, resident->pid);
	if (directory < 0)
		return is_shortage(directory) ? directory : 0;
	r = guess_owner(procs, directory, &owner);
	if (r < 0 || owner != OWNER_OTHER)
		return r;
	if (procs_key(directory, "", &key) == 0 && key == resident->key)
		sighting->owner = OWNER_OTHER;
	return 0;
}

/* One pass over all processes. */
struct scan {
	const struct procs *procs;
	struct rtnl *rtnl;
	size_t max;      /* namespaces of each kind: others', and the rest */
	size_t n_others; /* so far */
	procs_label_fn *known;
	void *userdata;
	struct sightings *sightings;
};

/* Each kind has room of its own: whoever makes namespaces takes no place but those of his like. */
static bool count_if_full(const struct scan *scan, enum netns_owner owner)
{
	struct sightings *sightings = scan->sightings;
	bool other = owner == OWNER_OTHER;

	if ((other ? scan->n_others : sightings->n - scan->n_others) < scan->max)
		return false;
	sightings->n_more++;
	sightings->n_more_untrusted += other;
	return true;
}

/* Whose it is by the first process that tells, before it is asked for a number, which the kernel would have to keep. */
static bool has_no_room(const struct scan *scan, const struct resident *resident)
{
	_cleanup_close_ int directory = -1;
	enum netns_owner owner;

	if (scan->sightings->n < scan->max)
		return false;
	directory = open_process(scan->procs, resident->pid);
	if (directory < 0 || guess_owner(scan->procs, directory, &owner) < 0)
		return false;
	return count_if_full(scan, owner);
}

static bool has_label(const struct procs *procs, const struct resident *resident, const char *label)
{
	_cleanup_close_ int directory = open_process(procs, resident->pid);
	_cleanup_free_ char *text = NULL;
	uint64_t key;

	return directory >= 0 && read_label(directory, &text) == 0 && text &&
	       strcmp(text, label) == 0 && procs_key(directory, "", &key) == 0 &&
	       key == resident->key;
}

/* The first process is another after a restart. By whom a namespace is known it stays, as long as he is there. */
static int keep_label(const struct scan *scan, const struct resident *first,
	const struct resident *end, struct sighting *found)
{
	const char *known = scan->known ? scan->known(found->nsid, scan->userdata) : NULL;
	char *copy;

	if (!known || (found->label && strcmp(found->label, known) == 0))
		return 0;
	for (; first < end; first++) {
		if (!has_label(scan->procs, first, known))
			continue;
		copy = strdup(known);
		if (!copy)
			return -ENOMEM;
		free(found->label);
		found->label = copy;
		return 0;
	}
	return 0;
}

static int add_namespace(struct scan *scan, struct sighting *found)
{
	struct sighting *slot;

	if (count_if_full(scan, found->owner)) {
		free(found->label);
		return 0;
	}
	slot = sightings_append(scan->sightings);
	if (!slot) {
		free(found->label);
		return -ENOMEM;
	}
	*slot = *found;
	scan->n_others += found->owner == OWNER_OTHER;
	return 0;
}

/* Where it was seen. One that has moved on since speaks for another namespace, whose residents speak for themselves. */
static int look_at_resident(
	const struct scan *scan, const struct resident *resident, struct sighting *found)
{
	_cleanup_close_ int directory = open_process(scan->procs, resident->pid);

	if (directory < 0)
		return directory;
	return look_at(scan->procs, scan->rtnl, directory, resident->pid, resident->key, found);
}

/* The residents [first, end) share a namespace. */
static int find_namespace(
	struct scan *scan, const struct resident *first, const struct resident *end)
{
	struct sighting found = { 0 };
	int r = -ESRCH;

	if (has_no_room(scan, first))
		return 0;
	for (; is_gone(r) && first < end; first++)
		r = look_at_resident(scan, first, &found);
	if (is_gone(r)) /* all of them */
		return 0;
	if (r < 0) { /* there is one, nobody knows which */
		scan->sightings->is_incomplete = true;
		return r == -ENOMEM ? r : 0;
	}
	r = keep_label(scan, first, end, &found);
	if (r < 0) {
		free(found.label);
		return r;
	}
	for (; first < end; first++)
		if (look_for_others(scan->procs, first, &found) < 0) { /* no reason to trust it */
			found.owner = OWNER_UNKNOWN;
			scan->sightings->is_incomplete = true;
			break;
		}
	return add_namespace(scan, &found);
}

/* The first process is always there, and another's: where it is not shown (hidepid= of proc(5)), others are not. */
static int note_hidden(const struct procs *procs, struct sightings *sightings)
{
	uint64_t key;

	if (!is_gone(procs_key(procs->fd, "1/", &key)))
		return 0;
	return sightings_skip(sightings, "/proc",
		"mounted with hidepid: namespaces known only by processes of others are not seen",
		false);
}

int procs_find(const struct procs *procs, struct rtnl *rtnl, size_t max, procs_label_fn *known,
	void *userdata, struct sightings *ret)
{
	_cleanup_(sightings_done) struct sightings sightings = { 0 };
	struct scan scan = { procs, rtnl, max, 0, known, userdata, &sightings };
	_cleanup_(residents_done) struct residents residents = { 0 };
	int r;

	r = find_residents(procs, &residents);
	if (r == 0)
		r = note_hidden(procs, &sightings);
	for (size_t i = 0, end; r == 0 && i < residents.n; i = end) {
		for (end = i + 1; end < residents.n; end++)
			if (residents.list[end].key != residents.list[i].key)
				break;
		r = find_namespace(&scan, &residents.list[i], &residents.list[end]);
	}
	if (r < 0)
		return r;
	*ret = sightings;
	sightings = (struct sightings){ 0 };
	return 0;
}
