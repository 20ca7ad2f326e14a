/* SPDX-License-Identifier: MIT */
/*
 * Finding namespaces, with real ones that come and go at the wrong moment. Everything happens in network,
 * mount and pid namespaces of the test's own, with a /proc that shows nobody else: no process of the
 * machine is seen, and none can be hit.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/core/tunnel.h"
#include "agent/kern/events.h"
#include "agent/kern/netns.h"
#include "agent/kern/procs.h"
#include "agent/observe.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/clock.h"
#include "tests/unit/unit.h"

#define ADDRESSES 3000                  /* of one namespace: its dump has many parts */
#define LONG_PAUSE (600 * USEC_PER_SEC) /* no machine is too slow to get there before its end */
#define SHORT_PAUSE (USEC_PER_SEC / 5)
#define COMES_HOME_USEC (120 * USEC_PER_SEC) /* in the right moment; most often within a second */

static struct rtnl *rtnl;
static struct procs procs = PROCS_NONE;
static struct config config; /* the usual one */

static const char *name_of_child = "child";

/* A process in a network namespace of its own, or in one of other kinds besides. */
static void live(int ready, int flags)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(flags) < 0 || prctl(PR_SET_NAME, name_of_child) < 0 ||
		write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		(void)pause();
}

/* `pid`: the number it must have, 0: any. Returns it, or -1: the number is taken. */
static pid_t spawn(int flags, pid_t pid)
{
	struct clone_args args = { .exit_signal = SIGCHLD,
		.set_tid = pid > 0 ? (uintptr_t)&pid : 0,
		.set_tid_size = pid > 0 };
	int ready[2];
	char byte;
	long child;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	child = syscall(SYS_clone3, &args, sizeof(args));
	if (child == 0)
		live(ready[1], flags);
	(void)close(ready[1]);
	if (child > 0)
		assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	assert_true(child > 1 || (child < 0 && pid > 0));
	return (pid_t)child;
}

/* In the network namespace of another. */
static pid_t spawn_beside(pid_t other, int flags)
{
	char path[64];
	int netns, own;
	pid_t child;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", other);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	child = spawn(flags, 0);
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	(void)close(netns);
	(void)close(own);
	return child;
}

static pid_t spawn_named(const char *name, pid_t beside)
{
	pid_t child;

	name_of_child = name;
	child = beside > 0 ? spawn_beside(beside, 0) : spawn(CLONE_NEWNET, 0);
	name_of_child = "child";
	return child;
}

static void reap(pid_t pid)
{
	assert_true(pid > 1); /* -1 would be everybody */
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void in_netns(pid_t pid, const char *command)
{
	char line[512];

	(void)snprintf(line, sizeof(line), "nsenter --net=/proc/%d/ns/net %s", pid, command);
	assert_int_equal(system(line), 0);
}

static bool is_listed(int32_t nsid)
{
	_cleanup_free_ int32_t *nsids = NULL;
	size_t n = 0;
	bool found = false;

	assert_int_equal(rtnl_list_nsids(rtnl, &nsids, &n), 0);
	for (size_t i = 0; i < n; i++)
		found = found || nsids[i] == nsid;
	return found;
}

/*
 * The kernel takes namespaces apart in one worker, in turn. One that ended cannot be asked for any more; its
 * number is free when the worker has come to it.
 */
static bool is_gone_soon(int32_t nsid)
{
	for (int i = 0; i < 3000; i++) {
		if (rtnl_check_nsid(rtnl, nsid) == -ENOENT && !is_listed(nsid))
			return true;
		(void)usleep(10 * 1000);
	}
	return false;
}

static const struct sighting *find_process(const struct sightings *sightings, pid_t pid)
{
	for (size_t i = 0; i < sightings->n; i++)
		if (sightings->list[i].pid == (uint32_t)pid)
			return &sightings->list[i];
	return NULL;
}

static void set_ptrace_right(bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	assert_int_equal(syscall(SYS_capget, &header, data), 0);
	if (on)
		data[0].effective |= 1U << CAP_SYS_PTRACE;
	else
		data[0].effective &= ~(1U << CAP_SYS_PTRACE);
	assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

/* Without the right over them: one of root, one in a user namespace of its own. */
static void test_processes(void **state)
{
	_cleanup_(sightings_done) struct sightings found = { 0 };
	pid_t root = spawn(CLONE_NEWNET, 0), other = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0);
	const struct sighting *sighting;
	int32_t nsid;

	(void)state;
	set_ptrace_right(false);
	assert_int_equal(procs_find(&procs, rtnl, NETNS_MAX, NULL, NULL, &found), 0);
	set_ptrace_right(true);
	sighting = find_process(&found, root);
	assert_non_null(sighting);
	assert_int_equal(sighting->owner, OWNER_HOST);
	assert_false(sighting->owner_is_certain);
	assert_true(netns_id_is_none(&sighting->id));
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)root, &nsid), 0);
	assert_int_equal(sighting->nsid, nsid);
	sighting = find_process(&found, other);
	assert_non_null(sighting);
	assert_int_equal(sighting->owner, OWNER_OTHER);
	assert_null(find_process(&found, getpid()));
	reap(root);
	reap(other);
	assert_true(is_gone_soon(nsid));
}

/* One in the host's user namespace and one that is not share a namespace: whoever comes first. */
static void test_one_stranger_is_enough(void **state)
{
	pid_t first = spawn(CLONE_NEWNET, 0), second;
	_cleanup_(sightings_done) struct sightings found = { 0 };
	const struct sighting *sighting;

	(void)state;
	second = spawn_beside(first, CLONE_NEWUSER);
	set_ptrace_right(false);
	assert_int_equal(procs_find(&procs, rtnl, NETNS_MAX, NULL, NULL, &found), 0);
	set_ptrace_right(true);
	sighting = find_process(&found, first < second ? first : second);
	assert_non_null(sighting);
	assert_int_equal(sighting->owner, OWNER_OTHER);
	reap(first);
	reap(second);
}

/* Of those who share a namespace it is the same; see agent/kern/procs.c. */
static uint64_t key_of(pid_t pid)
{
	struct stat st;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/net/stat", pid);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* A process of root's that goes from one namespace to the next when it is told to. */
struct traveller {
	pid_t pid, next;
	int32_t when; /* this number is known, it goes to `next` */
	int told, arrived;
};

static void travel(int told, int arrived)
{
	char path[64];
	pid_t next;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(told, &next, sizeof(next)) == sizeof(next)) {
		_cleanup_close_ int netns = -1;

		(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", next);
		netns = open(path, O_RDONLY | O_CLOEXEC);
		if (setns(netns, CLONE_NEWNET) < 0 || write(arrived, "x", 1) != 1)
			break;
	}
	_exit(1);
}

static void traveller_start(struct traveller *traveller)
{
	int told[2], arrived[2];

	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	assert_int_equal(pipe2(arrived, O_CLOEXEC), 0);
	traveller->pid = fork();
	if (traveller->pid == 0)
		travel(told[0], arrived[1]);
	assert_true(traveller->pid > 1);
	traveller->told = told[1];
	traveller->arrived = arrived[0];
	(void)close(told[0]);
	(void)close(arrived[1]);
}

static void traveller_end(struct traveller *traveller)
{
	reap(traveller->pid);
	(void)close(traveller->told);
	(void)close(traveller->arrived);
}

static void send_to(struct traveller *traveller, pid_t next)
{
	char byte;

	assert_int_equal(write(traveller->told, &next, sizeof(next)), sizeof(next));
	assert_int_equal(read(traveller->arrived, &byte, 1), 1);
}

/* Called while processes are looked at, by namespace, when all of them have been listed. */
static const char *send_on(int32_t nsid, void *userdata)
{
	struct traveller *traveller = userdata;

	if (nsid == traveller->when)
		send_to(traveller, traveller->next);
	return NULL;
}

/* A stranger, whose namespace is looked at after that of `first`. */
static pid_t spawn_stranger_after(pid_t first)
{
	pid_t strangers[16];
	size_t n = 0;

	/* Those who stay keep their keys, so the next one's is higher. */
	do {
		assert_true(n < ELEMENTS_OF(strangers));
		strangers[n++] = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0);
	} while (key_of(strangers[n - 1]) < key_of(first));
	for (size_t i = 0; i + 1 < n; i++)
		reap(strangers[i]);
	return strangers[n - 1];
}

/*
 * A process of root's was seen at a stranger's and is in a game's namespace when it is asked. That makes the
 * game's none of the stranger's, nor is his one forgotten.
 */
static void test_a_process_that_moves_on(void **state)
{
	_cleanup_(sightings_done) struct sightings found = { 0 };
	struct traveller traveller;
	pid_t game, stranger;
	int32_t nsid;

	(void)state;
	traveller_start(&traveller); /* first, so that its number is the lowest there */
	game = traveller.next = spawn(CLONE_NEWNET, 0);
	stranger = spawn_stranger_after(game);
	assert_true(traveller.pid < stranger);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)game, &nsid), 0);
	traveller.when = nsid;
	send_to(&traveller, stranger);
	set_ptrace_right(false);
	assert_int_equal(procs_find(&procs, rtnl, NETNS_MAX, send_on, &traveller, &found), 0);
	set_ptrace_right(true);
	assert_int_equal(key_of(traveller.pid), key_of(game)); /* it happened */
	for (size_t i = 0; i < found.n; i++)
		if (found.list[i].nsid == nsid)
			assert_int_equal(found.list[i].owner, OWNER_HOST);
	assert_non_null(find_process(&found, game));
	assert_non_null(find_process(&found, stranger));
	assert_int_equal(find_process(&found, stranger)->owner, OWNER_OTHER);
	traveller_end(&traveller);
	reap(game);
	reap(stranger);
}

/* The number of a process that ended goes to another one before the kernel is asked about it. */
static void test_reused_pid(void **state)
{
	int32_t nsid;

	(void)state;
	for (int i = 0; i < 20; i++) {
		_cleanup_close_ int directory = -1;
		struct sighting sighting = { .nsid = 4711 };
		pid_t first = spawn(CLONE_NEWNET, 0), second;
		char path[32];

		(void)snprintf(path, sizeof(path), "/proc/%d", first);
		directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		assert_true(directory >= 0);
		reap(first);
		second = spawn(CLONE_NEWNET, first);
		if (second < 0) /* somebody else was faster */
			continue;
		assert_int_equal(second, first);
		/* The kernel would answer, for the wrong one. */
		assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)first, &nsid), 0);
		assert_int_equal(
			procs_look_at(&procs, rtnl, directory, (uint32_t)first, &sighting), -ESRCH);
		assert_int_equal(sighting.nsid, 4711);
		assert_int_equal(procs_look(&procs, rtnl, (uint32_t)second, &sighting), 0);
		assert_int_equal(sighting.nsid, nsid);
		free(sighting.label);
		reap(second);
		return;
	}
	fail_msg("no pid could be had again");
}

static void test_ended_process(void **state)
{
	pid_t child = spawn(CLONE_NEWNET, 0);
	struct sighting sighting = { .nsid = 4711 };
	int32_t nsid;

	(void)state;
	/* A zombie is still in /proc, but in no namespace. */
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	assert_int_equal(procs_look(&procs, rtnl, (uint32_t)child, &sighting), -ESRCH);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)child, &nsid), -ESRCH);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(procs_look(&procs, rtnl, (uint32_t)child, &sighting), -ESRCH);
	assert_int_equal(sighting.nsid, 4711);
}

static const char *reason_of(const struct sightings *sightings, const char *path)
{
	for (size_t i = 0; i < sightings->n_skipped; i++)
		if (strcmp(sightings->skipped[i].path, path) == 0)
			return sightings->skipped[i].reason;
	return "";
}

static void make(const char *command)
{
	assert_int_equal(system(command), 0);
}

/* None of them may be hung on, and each has a reason of its own. */
static void test_odd_files(void **state)
{
	static const struct {
		const char *path, *reason;
	} expected[] = {
		{ "/run/odd/directory", "not even a file" },
		{ "/run/odd/fifo", "not even a file" },
		{ "/run/odd/device", "not even a file" },
		{ "/run/odd/plain", "a plain file" },
		{ "/run/odd/placeholder", "a plain file" },
		{ "/run/odd/dangling", "leads nowhere" },
		{ "/run/odd/ended", "leads nowhere" },
		{ "/run/odd/loop", "a loop" },
		{ "/run/odd/mnt", "of another kind" },
	};
	_cleanup_(sightings_done) struct sightings found = { 0 };
	struct netns_id own;
	int32_t own_nsid;

	(void)state;
	make("mkdir -p /run/odd/directory && cd /run/odd && mkfifo fifo && mknod device c 5 0 &&"
	     " touch plain && touch placeholder && chmod 0 placeholder && ln -s nothing dangling &&"
	     " ln -s loop loop && ln -s /proc/2147483647/ns/net ended && ln -s /proc/self/ns/mnt mnt &&"
	     " ln -s /proc/self/ns/net own");
	assert_int_equal(netns_own(rtnl, &own, &own_nsid), 0);
	assert_int_equal(netns_find(rtnl, &procs, "/run/odd", &own, &found), 0);
	for (size_t i = 0; i < ELEMENTS_OF(expected); i++)
		if (!strstr(reason_of(&found, expected[i].path), expected[i].reason))
			fail_msg("%s: '%s'", expected[i].path, reason_of(&found, expected[i].path));
	assert_int_equal(found.n_skipped, ELEMENTS_OF(expected));
	assert_int_equal(found.n, 1);
	assert_string_equal(found.list[0].path, "/run/odd/own");
	assert_int_equal(found.list[0].nsid, NSID_OWN);
	assert_false(found.is_incomplete);
	make("rm -r /run/odd");
}

/* Of a process over which there is no right; also behind another link, and of a thread. */
static void test_links_to_processes(void **state)
{
	_cleanup_(sightings_done) struct sightings found = { 0 };
	pid_t child = spawn(CLONE_NEWNET, 0);
	struct netns_id own;
	char command[256];
	int32_t own_nsid;

	(void)state;
	(void)snprintf(command, sizeof(command),
		"mkdir -p /run/links && cd /run/links && ln -s /proc/%d/ns/net a &&"
		" ln -s a b && ln -s ../links/b c && ln -s /proc/%d/task/%d/ns/net d",
		child, child, child);
	make(command);
	assert_int_equal(netns_own(rtnl, &own, &own_nsid), 0);
	set_ptrace_right(false);
	assert_int_equal(open("/run/links/a", O_RDONLY), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(netns_find(rtnl, &procs, "/run/links", &own, &found), 0);
	set_ptrace_right(true);
	assert_int_equal(found.n_skipped, 0);
	assert_int_equal(found.n, 4);
	for (size_t i = 0; i < found.n; i++) {
		assert_true(found.list[i].nsid >= 0);
		assert_int_equal(found.list[i].nsid, found.list[0].nsid);
		assert_int_equal(found.list[i].owner, OWNER_HOST);
	}
	reap(child);
	make("rm -r /run/links");
}

static void note_bell(const struct bell *bell, void *userdata)
{
	struct bell *sum = userdata;

	sum->overrun = sum->overrun || bell->overrun;
	sum->own_overrun = sum->own_overrun || bell->own_overrun;
	sum->routes_changed = sum->routes_changed || bell->routes_changed;
	sum->netns_changed = sum->netns_changed || bell->netns_changed;
	sum->veth_changed = sum->veth_changed || bell->veth_changed;
	sum->nsid_given = sum->nsid_given || bell->nsid_given;
}

static void flap(int times)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo" };

	for (int i = 0; i < times; i++) {
		request.ifr_flags = i % 2 == 0 ? IFF_UP : 0;
		assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	}
}

/* A receive buffer of the smallest size, and more than it can hold. */
static void test_overrun(void **state)
{
	struct bell sum = { 0 };
	_cleanup_close_ int fd = -1;

	(void)state;
	assert_int_equal(events_open(EVENTS_ALL_NETNS, 1, &fd), 0);
	flap(2);
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_true(sum.netns_changed);
	flap(200);
	sum = (struct bell){ 0 };
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_true(sum.overrun);
	/* It hears on. */
	flap(2);
	sum = (struct bell){ 0 };
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_true(sum.netns_changed);
	flap(1);
}

/* Of routes more may come than is heard, and nothing of namespaces is lost by it. */
static void test_a_flood_of_routes(void **state)
{
	struct bell sum = { 0 };
	_cleanup_close_ int fd = -1;

	(void)state;
	assert_int_equal(events_open(EVENTS_OWN_NETNS, 1, &fd), 0);
	make("ip link set lo up");
	make("for i in $(seq 1 200); do echo route add 10.77.0.$i/32 dev lo; done | ip -batch -");
	assert_int_equal(events_read(fd, EVENTS_OWN_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_true(sum.own_overrun && sum.routes_changed);
	assert_false(sum.overrun);
	make("ip link set lo down");
}

/* What is told of a nexthop stands for the routes by it. */
static void test_bells_of_nexthops(void **state)
{
	struct bell sum = { 0 };
	_cleanup_close_ int fd = -1;

	(void)state;
	make("ip link add one type veth peer name other && ip link set one up && ip link set other up");
	make("ip nexthop add id 10 dev one");
	assert_int_equal(events_open(EVENTS_OWN_NETNS, 0, &fd), 0);
	make("ip nexthop del id 10");
	assert_int_equal(events_read(fd, EVENTS_OWN_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_true(sum.routes_changed);
	make("ip link del one");
}

static void test_bells_of_neighbours(void **state)
{
	struct bell sum = { 0 };
	_cleanup_close_ int fd = -1;
	pid_t child;

	(void)state;
	assert_int_equal(events_open(EVENTS_ALL_NETNS, 0, &fd), 0);
	flap(1);
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_false(sum.veth_changed || sum.nsid_given);
	child = spawn(CLONE_NEWNET, 0);
	in_netns(child, "ip link add inside type veth peer name outside");
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_false(sum.veth_changed || sum.nsid_given);
	{
		char command[64];

		(void)snprintf(command, sizeof(command), "ip link set outside netns %d", getpid());
		in_netns(child, command);
	}
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, note_bell, &sum), 0);
	assert_true(sum.veth_changed && sum.nsid_given);
	reap(child);
}

static void add_addresses(pid_t pid)
{
	char path[] = "/run/addresses", command[64];
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	for (int i = 0; i < ADDRESSES; i++)
		(void)fprintf(file, "address add 10.1.%d.%d/32 dev lo\n", i / 250, i % 250 + 1);
	assert_int_equal(fclose(file), 0);
	(void)snprintf(command, sizeof(command), "ip -batch %s", path);
	in_netns(pid, command);
	(void)unlink(path);
}

/* One more address comes and goes without end: a process group of its own. */
static pid_t start_churn(pid_t there)
{
	pid_t churn = fork();
	char path[64];

	assert_true(churn >= 0);
	if (churn > 0) {
		(void)setpgid(churn, churn);
		return churn;
	}
	if (setpgid(0, 0) < 0)
		_exit(1);
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", there);
	if (setns(open(path, O_RDONLY | O_CLOEXEC), CLONE_NEWNET) < 0)
		_exit(1);
	_exit(system("yes 'address add 10.2.0.1/32 dev lo\naddress del 10.2.0.1/32 dev lo' |"
		     " ip -batch -"));
}

static void end_churn(pid_t churn)
{
	assert_true(churn > 1);
	(void)killpg(churn, SIGKILL);
	assert_int_equal(waitpid(churn, NULL, 0), churn);
}

/* One more comes and goes while they are read: all that is taken for whole is whole. */
static void test_interrupted_dump(void **state)
{
	pid_t child = spawn(CLONE_NEWNET, 0), churn;
	int interrupted = 0, whole = 0;
	int32_t nsid;

	(void)state;
	add_addresses(child);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)child, &nsid), 0);
	churn = start_churn(child);
	for (int i = 0; i < 2000 && (interrupted < 5 || whole < 1); i++) {
		struct netns_view view;
		int r = rtnl_read_netns(rtnl, nsid, &view);

		if (r == -EAGAIN) {
			interrupted++;
			continue;
		}
		assert_int_equal(r, 0);
		assert_in_range(view.n_addresses, ADDRESSES, ADDRESSES + 1);
		netns_view_done(&view);
		whole++;
		if (whole > 20 && interrupted >= 5)
			(void)killpg(churn, SIGSTOP);
	}
	assert_true(interrupted >= 5);
	print_message("# %d dumps interrupted, %d whole\n", interrupted, whole);
	end_churn(churn);
	reap(child);
}

/* A namespace ends while it is read: what is taken for whole is whole, and then it is an error. */
static void test_namespace_that_ends_in_mid_dump(void **state)
{
	pid_t child = spawn(CLONE_NEWNET, 0), killer;
	struct netns_view view;
	int32_t nsid;
	int r = 0;

	(void)state;
	add_addresses(child);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)child, &nsid), 0);
	killer = fork();
	assert_true(killer >= 0);
	if (killer == 0) {
		(void)usleep(20 * 1000);
		_exit(kill(child, SIGKILL) < 0);
	}
	for (int i = 0; i < 100000; i++) {
		r = rtnl_read_netns(rtnl, nsid, &view);
		if (r < 0 && r != -EAGAIN)
			break;
		if (r < 0)
			continue;
		assert_int_equal(view.n_addresses, ADDRESSES);
		netns_view_done(&view);
		if (i == 0)
			continue;
		(void)waitpid(child, NULL, WNOHANG);
	}
	assert_true(r < 0 && r != -EAGAIN);
	assert_true(is_gone_soon(nsid));
	assert_int_equal(waitpid(killer, NULL, 0), killer);
	(void)waitpid(child, NULL, WNOHANG);
}

static void ring(const struct bell *bell, void *userdata)
{
	(void)observer_ring(userdata, bell);
}

static const struct netns *known(const struct observer *observer, int32_t nsid)
{
	for (size_t i = 0; i < observer->snapshot.n_netns; i++)
		if (observer->snapshot.netns[i].nsid == nsid)
			return &observer->snapshot.netns[i];
	return NULL;
}

/* As `ip netns add` does it: in a new namespace for a moment, then where it came from. */
static void come_and_go(const char *there)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int away = open(there, O_RDONLY | O_CLOEXEC);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (setns(away, CLONE_NEWNET) == 0 && setns(home, CLONE_NEWNET) == 0)
		;
	_exit(1);
}

/*
 * One that is seen in another namespace and is home when that one's number is asked for gives the agent's own
 * namespace a number. That is no further namespace, not even until the next look.
 */
static void test_a_process_that_comes_home(void **state)
{
	pid_t other = spawn(CLONE_NEWNET, 0), traveller;
	_cleanup_(observer_done) struct observer observer;
	_cleanup_close_ int home = -1;
	struct bell bell = { .veth_changed = true };
	char command[128];
	int32_t own = NSID_NONE;
	uint64_t end;

	(void)state;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(home >= 0);
	assert_int_equal(rtnl_ask_nsid(rtnl, home, &own), 0);
	assert_int_equal(own, NSID_NONE);
	/* Nobody else leads there. */
	(void)snprintf(command, sizeof(command),
		"touch /run/away && mount --bind /proc/%d/ns/net /run/away", other);
	make(command);
	reap(other);
	traveller = fork();
	if (traveller == 0)
		come_and_go("/run/away");
	assert_true(traveller > 1);
	observer_init(&observer, rtnl);
	end = monotonic_usec() + COMES_HOME_USEC;
	while (own < 0 && monotonic_usec() < end) {
		observer.scan_not_before = 0;
		(void)observer_ring(&observer, &bell);
		(void)observer_refresh(&observer, &config);
		assert_int_equal(rtnl_ask_nsid(rtnl, home, &own), 0);
	}
	assert_true(own >= 0); /* it happened */
	assert_null(known(&observer, own));
	assert_int_equal(observer.own_nsid, own);
	reap(traveller);
	make("umount /run/away && rm /run/away");
}

/* Former tests' namespaces may still be listed, and cannot be read. */
static void refresh(struct observer *observer)
{
	int r = -EAGAIN;

	for (int i = 0; i < 3000 && r == -EAGAIN; i++) {
		if (i > 0)
			(void)usleep(10 * 1000);
		observer_ring_all(observer);
		observer->scan_not_before = 0;
		r = observer_refresh(observer, &config);
	}
	assert_int_equal(r, 0);
}

/* The number of a namespace that ended goes to the next one: of the first nothing is left to it. */
static void test_reused_number(void **state)
{
	_cleanup_(observer_done) struct observer observer;
	_cleanup_close_ int fd = -1;
	pid_t first, second = 0;
	int32_t nsid, again = -1;
	uint64_t seq;

	(void)state;
	assert_int_equal(events_open(EVENTS_ALL_NETNS, 0, &fd), 0);
	observer_init(&observer, rtnl);
	refresh(&observer);
	first = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)first, &nsid), 0);
	refresh(&observer);
	assert_non_null(known(&observer, nsid));
	assert_int_equal(known(&observer, nsid)->owner, OWNER_OTHER);
	seq = known(&observer, nsid)->seq;
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, ring, &observer), 0);
	assert_false(known(&observer, nsid)->is_renewed);
	reap(first);
	assert_true(is_gone_soon(nsid));
	second = spawn(CLONE_NEWNET, 0);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)second, &again), 0);
	assert_int_equal(again, nsid);
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, ring, &observer), 0);
	refresh(&observer);
	assert_non_null(known(&observer, nsid));
	assert_int_equal(known(&observer, nsid)->owner, OWNER_HOST);
	assert_true(known(&observer, nsid)->seq > seq);
	reap(second);
	assert_true(is_gone_soon(nsid));
}

/* Who is started anew has a higher number than who lives there besides. */
static void test_a_label_outlives_its_process(void **state)
{
	_cleanup_(observer_done) struct observer observer;
	pid_t game = spawn_named("game", 0), sidecar = spawn_named("sidecar", game);
	int32_t nsid;

	(void)state;
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)game, &nsid), 0);
	observer_init(&observer, rtnl);
	refresh(&observer);
	assert_string_equal(netns_label(known(&observer, nsid)), "game");
	reap(game);
	game = spawn_named("game", sidecar);
	refresh(&observer);
	assert_string_equal(netns_label(known(&observer, nsid)), "game");
	/* It is another's now. */
	reap(game);
	refresh(&observer);
	assert_string_equal(netns_label(known(&observer, nsid)), "sidecar");
	reap(sidecar);
	assert_true(is_gone_soon(nsid));
}

/* It is read again and again, and torn. Returns when that happened often enough. */
static void read_torn(struct observer *observer, int32_t nsid, bool counts)
{
	bool before = false;
	int torn = 0;

	for (int i = 0; i < 4000 && torn < 5; i++) {
		struct netns *netns = (struct netns *)known(observer, nsid);
		uint64_t begin = monotonic_usec();
		int r;

		netns->is_stale = true;
		netns->not_before = 0;
		r = observer_refresh(observer, &config);
		assert_int_equal(r, netns->error < 0 && counts ? -EAGAIN : 0);
		assert_true(tunnels_are_known(&observer->snapshot, &config));
		assert_in_range(netns->view.n_addresses, ADDRESSES, ADDRESSES + 1);
		/* Once may happen to anybody who counts. */
		if (netns->error < 0 && (before || !counts))
			assert_true(netns->not_before > begin);
		before = netns->error < 0;
		torn += before;
	}
	assert_true(torn >= 5);
	/* Who counts has the pass tried again by what it returned, ever more rarely, and asks for none. */
	if (!counts)
		assert_true(observer_due(observer) > 0);
	else if (known(observer, nsid)->error < 0 && known(observer, nsid)->not_before > 0)
		assert_true(observer_due(observer) != known(observer, nsid)->not_before);
}

/* Who lives in a namespace tears its dumps: that fails no pass unless it counts, and is put off, never forgotten. */
static void test_torn_views(void **state)
{
	static const struct {
		int flags;
		bool counts;
	} cases[] = { { CLONE_NEWUSER | CLONE_NEWNET, false }, { CLONE_NEWNET, true } };

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_(observer_done) struct observer observer;
		pid_t child = spawn(cases[i].flags, 0), churn;
		int32_t nsid;

		add_addresses(child);
		assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)child, &nsid), 0);
		observer_init(&observer, rtnl);
		refresh(&observer);
		churn = start_churn(child);
		read_torn(&observer, nsid, cases[i].counts);
		end_churn(churn);
		for (int j = 0; j < 1000 && known(&observer, nsid)->error < 0; j++) {
			(void)usleep(10 * 1000);
			(void)observer_refresh(&observer, &config);
		}
		assert_int_equal(known(&observer, nsid)->error, 0);
		assert_false(known(&observer, nsid)->is_stale);
		reap(child);
		assert_true(is_gone_soon(nsid));
	}
}

static void change_address(struct nl_sock *socket, int type)
{
	const struct ifaddrmsg head = {
		.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 1
	};
	const uint32_t address = htonl(0x0a020001);
	struct nl_msg *message = nlmsg_alloc_simple(type, NLM_F_CREATE);

	if (!message || nlmsg_append(message, (void *)&head, sizeof(head), NLMSG_ALIGNTO) < 0 ||
		nla_put(message, IFA_LOCAL, sizeof(address), &address) < 0)
		_exit(1);
	(void)nl_send_sync(socket, message);
}

/* Whoever asked tries again, ever more rarely: it is not due at once for all that it is stale. */
static void test_what_has_failed_is_not_due(void **state)
{
	_cleanup_(observer_done) struct observer observer;

	(void)state;
	observer_init(&observer, rtnl);
	refresh(&observer);
	observer_ring_list(&observer);
	assert_true(observer_due(&observer) > 0);
	observer.list_has_failed = true;
	assert_int_equal(observer_due(&observer), 0);
	refresh(&observer);
	assert_false(observer.list_has_failed);
}

/* Another address comes and goes there without end, by a socket alone: no process is in it. */
__attribute__((noreturn)) static void churn_from_afar(pid_t there, int ready)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), away;
	struct nl_sock *socket = nl_socket_alloc();
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", there);
	away = open(path, O_RDONLY | O_CLOEXEC);
	if (!socket || setns(away, CLONE_NEWNET) < 0 || nl_connect(socket, NETLINK_ROUTE) < 0 ||
		setns(home, CLONE_NEWNET) < 0 || close(away) < 0 || write(ready, "x", 1) != 1)
		_exit(1);
	for (;;) {
		change_address(socket, RTM_NEWADDR);
		change_address(socket, RTM_DELADDR);
	}
}

static pid_t start_churn_from_afar(pid_t there)
{
	int ready[2];
	char byte;
	pid_t churn;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	churn = fork();
	assert_true(churn >= 0);
	if (churn == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		churn_from_afar(there, ready[1]);
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	return churn;
}

/* The first read of it is torn, and the next. Whether both were. */
static bool is_torn_twice(int32_t nsid)
{
	_cleanup_(observer_done) struct observer observer;
	struct netns *netns;

	observer_init(&observer, rtnl);
	observer.unread_max_usec = LONG_PAUSE;
	(void)observer_refresh(&observer, &config);
	netns = (struct netns *)known(&observer, nsid);
	assert_non_null(netns);
	assert_int_equal(netns->owner, OWNER_UNKNOWN);
	if (netns->has_view)
		return false;
	assert_true(netns->error < 0);
	assert_false(observer.snapshot.complete);
	observer.unread_max_usec = 0;
	/* It is to be read all the same, though the pass no longer asks for another. */
	netns->not_before = monotonic_usec() + LONG_PAUSE;
	assert_int_equal(observer_refresh(&observer, &config), 0);
	netns = (struct netns *)known(&observer, nsid);
	assert_true(netns->is_put_off && !netns->has_view);
	netns->not_before = 0;
	assert_int_equal(observer_refresh(&observer, &config), 0);
	assert_true(observer.snapshot.complete);
	netns = (struct netns *)known(&observer, nsid);
	if (netns->has_view)
		return false;
	assert_true(netns->is_put_off && observer_due(&observer) > 0);
	return true;
}

/* One that shows by its number alone may be the host's, and is waited for; but anybody can keep such a one from being read. */
static void test_nobody_is_waited_for_for_ever(void **state)
{
	pid_t child = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0), churn;
	int32_t nsid;
	int torn = 0;

	(void)state;
	add_addresses(child);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)child, &nsid), 0);
	churn = start_churn_from_afar(child);
	reap(child);
	for (int i = 0; i < 1000 && torn < 3; i++)
		torn += is_torn_twice(nsid);
	assert_int_equal(torn, 3);
	assert_int_equal(kill(churn, SIGKILL), 0);
	assert_int_equal(waitpid(churn, NULL, 0), churn);
	assert_true(is_gone_soon(nsid));
}

/* One that a new observer knows, by a number. Nothing else has rung then. */
static pid_t spawn_known(struct observer *observer, int fd, int32_t *ret_nsid)
{
	pid_t child = spawn(CLONE_NEWNET, 0);

	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)child, ret_nsid), 0);
	observer_init(observer, rtnl);
	refresh(observer);
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, ring, observer), 0);
	return child;
}

/* ... nor is it read on the account of the one before, while the list has to wait for its time. */
static void test_a_number_that_a_stranger_gets(void **state)
{
	_cleanup_(observer_done) struct observer observer;
	_cleanup_close_ int fd = -1;
	pid_t first, second;
	int32_t nsid, again;

	(void)state;
	assert_int_equal(events_open(EVENTS_ALL_NETNS, 0, &fd), 0);
	first = spawn_known(&observer, fd, &nsid);
	assert_int_equal(known(&observer, nsid)->owner, OWNER_HOST);
	reap(first);
	assert_true(is_gone_soon(nsid));
	second = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)second, &again), 0);
	assert_int_equal(again, nsid);
	in_netns(second, "ip address add 203.0.113.66/32 dev lo");
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, ring, &observer), 0);
	observer.list_not_before = observer.scan_not_before = monotonic_usec() + SHORT_PAUSE;
	(void)observer_refresh(&observer, &config);
	assert_int_equal(known(&observer, nsid)->owner, OWNER_HOST);
	assert_int_equal(known(&observer, nsid)->view.n_addresses, 0);
	(void)usleep(SHORT_PAUSE);
	refresh(&observer);
	assert_int_equal(known(&observer, nsid)->owner, OWNER_OTHER);
	assert_int_equal(known(&observer, nsid)->view.n_addresses, 1);
	reap(second);
	assert_true(is_gone_soon(nsid));
}

/* The end of a namespace is heard of late: its number is another's by then, which a file leads to. */
static void test_late_word_of_a_number(void **state)
{
	_cleanup_(observer_done) struct observer observer;
	_cleanup_close_ int fd = -1;
	pid_t first, second;
	int32_t nsid;
	char command[128];

	(void)state;
	assert_int_equal(events_open(EVENTS_ALL_NETNS, 0, &fd), 0);
	first = spawn_known(&observer, fd, &nsid);
	reap(first);
	assert_true(is_gone_soon(nsid));
	second = spawn(CLONE_NEWNET, 0);
	(void)snprintf(command, sizeof(command),
		"mkdir -p " NETNS_DIR " && touch " NETNS_DIR
		"/late && mount --bind /proc/%d/ns/net " NETNS_DIR "/late",
		second);
	make(command);
	reap(second);
	refresh(&observer);
	assert_non_null(known(&observer, nsid));
	assert_string_equal(netns_label(known(&observer, nsid)), "late");
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, ring, &observer), 0);
	observer.list_not_before = 0;
	assert_int_equal(observer_refresh(&observer, &config), 0);
	assert_non_null(known(&observer, nsid));
	assert_string_equal(netns_label(known(&observer, nsid)), "late");
	assert_int_equal(known(&observer, nsid)->owner, OWNER_HOST);
	make("umount " NETNS_DIR "/late && rm " NETNS_DIR "/late");
	assert_true(is_gone_soon(nsid));
}

/* What happens when the files of a list were looked at, and the rest of it was not. Once, or each time. */
static struct {
	void (*act)(void);
	bool again;
	char path[64];
	pid_t stranger, successors[8];
	size_t n_successors;
	int32_t nsid;
} meanwhile;

int __real_netns_find(struct rtnl *by, const struct procs *among, const char *directory,
	const struct netns_id *own, struct sightings *ret);
int __wrap_netns_find(struct rtnl *by, const struct procs *among, const char *directory,
	const struct netns_id *own, struct sightings *ret);

int __wrap_netns_find(struct rtnl *by, const struct procs *among, const char *directory,
	const struct netns_id *own, struct sightings *ret)
{
	void (*act)(void) = meanwhile.act;
	int r = __real_netns_find(by, among, directory, own, ret);

	if (!act || strcmp(directory, NETNS_DIR) != 0)
		return r;
	if (!meanwhile.again)
		meanwhile.act = NULL;
	act();
	return r;
}

/* One that only a file leads to. */
static void make_file(const char *name)
{
	pid_t child = spawn(CLONE_NEWNET, 0);
	char command[256];

	(void)snprintf(meanwhile.path, sizeof(meanwhile.path), NETNS_DIR "/%s", name);
	(void)snprintf(command, sizeof(command),
		"mkdir -p " NETNS_DIR " && touch %s && mount --bind /proc/%d/ns/net %s",
		meanwhile.path, child, meanwhile.path);
	make(command);
	reap(child);
}

static void remove_file(void)
{
	char command[256];

	(void)snprintf(
		command, sizeof(command), "umount %s && rm %s", meanwhile.path, meanwhile.path);
	make(command);
}

static void hand_number_over(void)
{
	remove_file();
	assert_true(is_gone_soon(meanwhile.nsid));
	meanwhile.stranger = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0);
	in_netns(meanwhile.stranger, "ip address add 203.0.113.66/32 dev lo");
}

static int32_t number_of_file(void)
{
	_cleanup_close_ int fd = open(meanwhile.path, O_RDONLY | O_CLOEXEC);
	int32_t nsid = NSID_NONE;

	assert_int_equal(rtnl_get_nsid(rtnl, fd, &nsid), 0);
	return nsid;
}

/*
 * A namespace ends after its file was looked at, and a stranger's gets its number from the same list, unheard. He
 * is not read on its account: neither its name, nor its owner, nor its leave are his.
 */
static void test_a_number_that_changes_hands_during_a_list(void **state)
{
	_cleanup_(observer_done) struct observer observer;
	const struct netns *netns;
	int32_t nsid;

	(void)state;
	make_file("former");
	meanwhile.nsid = number_of_file();
	observer_init(&observer, rtnl);
	refresh(&observer);
	assert_string_equal(netns_label(known(&observer, meanwhile.nsid)), "former");
	meanwhile.act = hand_number_over;
	observer_ring_all(&observer);
	observer.scan_not_before = 0;
	assert_int_equal(observer_refresh(&observer, &config), 0);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)meanwhile.stranger, &nsid), 0);
	assert_int_equal(nsid, meanwhile.nsid); /* it happened */
	netns = known(&observer, nsid);
	assert_non_null(netns);
	assert_int_equal(netns->n_names, 0);
	assert_int_not_equal(netns->owner, OWNER_HOST);
	assert_false(config_may_trust(&config, netns));
	refresh(&observer);
	assert_int_equal(known(&observer, nsid)->owner, OWNER_OTHER);
	assert_int_equal(known(&observer, nsid)->view.n_addresses, 1);
	reap(meanwhile.stranger);
	assert_true(is_gone_soon(nsid));
}

/* The same of what was seen by an earlier list, and is not looked at by this one. */
static void test_a_number_that_changes_hands_before_a_scan(void **state)
{
	_cleanup_(observer_done) struct observer observer;
	const struct netns *netns;

	(void)state;
	make_file("former");
	meanwhile.nsid = number_of_file();
	observer_init(&observer, rtnl);
	refresh(&observer);
	hand_number_over();
	observer.views_are_stale = observer.processes_are_stale = true;
	observer.scan_not_before = 0;
	assert_int_equal(observer_refresh(&observer, &config), 0);
	netns = known(&observer, meanwhile.nsid);
	assert_non_null(netns);
	assert_int_equal(netns->n_names, 0);
	assert_int_equal(netns->owner, OWNER_OTHER);
	assert_int_equal(netns->view.n_addresses, 1);
	reap(meanwhile.stranger);
	assert_true(is_gone_soon(meanwhile.nsid));
}

/* In each list one of root's ends, somebody has its number at once, and the next one of root's is there. */
static void renew_file(void)
{
	int32_t nsid = number_of_file(), again;

	remove_file();
	assert_true(is_gone_soon(nsid));
	assert_true(meanwhile.n_successors < ELEMENTS_OF(meanwhile.successors));
	meanwhile.stranger = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0);
	meanwhile.successors[meanwhile.n_successors++] = meanwhile.stranger;
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)meanwhile.stranger, &again), 0);
	assert_int_equal(again, nsid);
	make_file("restless");
}

/* That has an end, says that not all is known, and takes nothing of what it saw for known. */
static void test_numbers_that_change_hands_in_each_list(void **state)
{
	_cleanup_(observer_done) struct observer observer;

	(void)state;
	make_file("restless");
	observer_init(&observer, rtnl);
	refresh(&observer);
	assert_true(tunnels_are_known(&observer.snapshot, &config));
	meanwhile.act = renew_file;
	meanwhile.again = true;
	observer_ring_all(&observer);
	assert_int_equal(observer_refresh(&observer, &config), -EAGAIN);
	assert_false(tunnels_are_known(&observer.snapshot, &config));
	meanwhile.act = NULL;
	meanwhile.again = false;
	refresh(&observer);
	assert_true(tunnels_are_known(&observer.snapshot, &config));
	meanwhile.nsid = number_of_file();
	assert_string_equal(netns_label(known(&observer, meanwhile.nsid)), "restless");
	remove_file();
	assert_true(is_gone_soon(meanwhile.nsid));
	for (size_t i = 0; i < meanwhile.n_successors; i++)
		reap(meanwhile.successors[i]);
}

/* More messages than a small buffer can hold: numbers are given. */
static void give_numbers(void)
{
	enum { NUMBERS = 32 };
	pid_t children[NUMBERS];
	int32_t nsid;

	for (int i = 0; i < NUMBERS; i++) {
		children[i] = spawn(CLONE_NEWNET, 0);
		assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)children[i], &nsid), 0);
	}
	for (int i = 0; i < NUMBERS; i++)
		reap(children[i]);
}

/* Messages of numbers are lost while each list is made: it says so. */
static void test_numbers_that_cannot_be_followed(void **state)
{
	_cleanup_(observer_done) struct observer observer;

	(void)state;
	observer_init(&observer, rtnl);
	assert_int_equal(events_open(EVENTS_NSIDS, 1, &observer.nsid_bell_fd), 0);
	refresh(&observer);
	meanwhile.act = give_numbers;
	meanwhile.again = true;
	observer_ring_all(&observer);
	assert_int_equal(observer_refresh(&observer, &config), -EAGAIN);
	assert_true(observer.snapshot.is_doubtful);
	assert_false(tunnels_are_known(&observer.snapshot, &config));
	meanwhile.act = NULL;
	meanwhile.again = false;
	refresh(&observer);
	assert_false(observer.snapshot.is_doubtful);
	assert_true(tunnels_are_known(&observer.snapshot, &config));
}

/* What nothing leads to any more lives on by its number, and is the same to those who knew it. */
static void test_file_that_goes_before_its_namespace(void **state)
{
	_cleanup_(observer_done) struct observer observer;
	pid_t child = spawn(CLONE_NEWNET, 0);
	const struct netns *netns;
	char command[256];
	int32_t nsid;
	uint64_t seq;

	(void)state;
	(void)snprintf(command, sizeof(command),
		"mkdir -p /run/netns /run/hidden && touch /run/netns/a /run/hidden/a &&"
		" mount --bind /proc/%d/ns/net /run/netns/a &&"
		" mount --bind /proc/%d/ns/net /run/hidden/a",
		child, child);
	make(command);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)child, &nsid), 0);
	observer_init(&observer, rtnl);
	refresh(&observer);
	netns = known(&observer, nsid);
	assert_int_equal(netns->n_found, 2);
	seq = netns->seq;
	reap(child);
	make("umount /run/netns/a && rm /run/netns/a");
	refresh(&observer);
	netns = known(&observer, nsid);
	assert_non_null(netns);
	assert_int_equal(netns->seq, seq);
	assert_int_equal(netns->n_names, 0);
	assert_string_equal(netns->found[0], "nsid only");
	assert_int_equal(netns->owner, OWNER_HOST);
	assert_true(observer.snapshot.complete);
	make("umount /run/hidden/a && rm -r /run/hidden");
	assert_true(is_gone_soon(nsid));
	refresh(&observer);
	assert_null(known(&observer, nsid));
}

/*
 * More namespaces of a user than are looked at, there first: the host's are found all the same, and he keeps nobody
 * from knowing them all. The limit is small here.
 */
static void test_a_crowd_of_strangers(void **state)
{
	enum { MAX = 8, STRANGERS = 24, LATE = 3 };
	_cleanup_(observer_done) struct observer observer;
	pid_t strangers[STRANGERS], late[LATE];
	int32_t nsid;

	(void)state;
	observer_init(&observer, rtnl);
	observer.netns_max = MAX;
	for (int i = 0; i < STRANGERS; i++)
		strangers[i] = spawn(CLONE_NEWUSER | CLONE_NEWNET, 0);
	set_ptrace_right(false);
	refresh(&observer);
	assert_int_equal(observer.snapshot.n_netns, MAX);
	assert_true(observer.snapshot.n_more >= STRANGERS - MAX);
	assert_true(observer.snapshot.complete);
	for (int i = 0; i < LATE; i++)
		late[i] = spawn(CLONE_NEWNET, 0);
	refresh(&observer);
	set_ptrace_right(true);
	assert_int_equal(observer.snapshot.n_netns, MAX);
	assert_true(observer.snapshot.complete);
	for (int i = 0; i < LATE; i++) {
		assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)late[i], &nsid), 0);
		assert_non_null(known(&observer, nsid));
		assert_int_equal(known(&observer, nsid)->owner, OWNER_HOST);
		assert_true(known(&observer, nsid)->has_view);
	}
	/* Of the host's own there may be too many as well; those are missed. */
	observer.netns_max = LATE;
	set_ptrace_right(false);
	refresh(&observer);
	set_ptrace_right(true);
	assert_int_equal(observer.snapshot.n_netns, LATE);
	assert_false(observer.snapshot.complete);
	for (int i = 0; i < STRANGERS; i++)
		reap(strangers[i]);
	for (int i = 0; i < LATE; i++)
		reap(late[i]);
}

/* A busy host rings all the time: /proc is read now and then, and once more at the end. */
static void test_proc_is_not_read_for_each_bell(void **state)
{
	const struct bell bell = { .nsid = NSID_OWN, .veth_changed = true };
	_cleanup_(observer_done) struct observer observer;
	uint64_t begin = monotonic_usec(), pause;

	(void)state;
	observer_init(&observer, rtnl);
	refresh(&observer);
	assert_true(observer.scan_not_before >= begin + SHORT_PAUSE);
	pause = observer.scan_not_before = monotonic_usec() + LONG_PAUSE;
	for (int i = 0; i < 100; i++) {
		assert_true(observer_ring(&observer, &bell));
		(void)observer_refresh(&observer, &config);
		assert_int_equal(observer.scan_not_before, pause);
	}
	assert_true(observer.processes_are_stale);
	assert_true(observer_due(&observer) > 0);
	observer.scan_not_before = monotonic_usec() + SHORT_PAUSE;
	for (int i = 0; i < 100 && observer.processes_are_stale; i++) {
		(void)usleep(100 * 1000);
		(void)observer_refresh(&observer, &config);
	}
	assert_false(observer.processes_are_stale);
}

/* NETNS_ADDRESSES=1000000 is the long form: minutes, and a gigabyte of the kernel's. */
static int addresses_to_fill(void)
{
	const char *text = getenv("NETNS_ADDRESSES");
	int n = text ? atoi(text) : NETNS_ADDRESSES_MAX + 5000;

	assert_in_range(n, NETNS_ADDRESSES_MAX + 1, 4000000);
	return n;
}

/* On many devices, since the kernel goes through all of a device's for each one more. */
static void fill(pid_t pid, int n)
{
	enum { PER_DEVICE = 2000 };
	char path[] = "/run/fill", command[64];
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	for (int i = 0; i < n; i++) {
		int device = i / PER_DEVICE, number = i % PER_DEVICE;

		if (number == 0)
			(void)fprintf(
				file, "link add a%d type veth peer name b%d\n", device, device);
		(void)fprintf(file, "address add %d.%d.%d.%d/32 dev a%d\n", 10 + device / 250,
			device % 250, number / 250, number % 250 + 1, device);
	}
	assert_int_equal(fclose(file), 0);
	(void)snprintf(command, sizeof(command), "ip -batch %s", path);
	in_netns(pid, command);
	(void)unlink(path);
}

static uint64_t cpu_usec(void)
{
	return clock_usec(CLOCK_THREAD_CPUTIME_ID);
}

/* A namespace that somebody filled beyond all limits, and a small one of somebody else. */
struct crowd {
	pid_t full, other;
	int32_t nsid, small;
	struct observer observer;
};

static void crowd_set_up(struct crowd *crowd)
{
	struct rusage usage;
	uint64_t begin;

	crowd->full = spawn(CLONE_NEWNET, 0);
	crowd->other = spawn(CLONE_NEWNET, 0);
	fill(crowd->full, addresses_to_fill());
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)crowd->full, &crowd->nsid), 0);
	assert_int_equal(rtnl_get_nsid_of_process(rtnl, (uint32_t)crowd->other, &crowd->small), 0);
	observer_init(&crowd->observer, rtnl);
	/* A fast machine reads so much for nothing. */
	crowd->observer.view_free_usec = 0;
	begin = cpu_usec();
	refresh(&crowd->observer);
	(void)getrusage(RUSAGE_SELF, &usage);
	print_message("# %d addresses: all namespaces read in %u ms, at most %ld KiB of memory\n",
		addresses_to_fill(), (unsigned int)((cpu_usec() - begin) / 1000), usage.ru_maxrss);
	assert_non_null(known(&crowd->observer, crowd->nsid));
	assert_true(known(&crowd->observer, crowd->nsid)->view.truncated);
	assert_int_equal(
		known(&crowd->observer, crowd->nsid)->view.n_addresses, NETNS_ADDRESSES_MAX);
}

static void crowd_tear_down(struct crowd *crowd)
{
	observer_done(&crowd->observer);
	reap(crowd->full);
	reap(crowd->other);
}

static uint64_t not_before(const struct crowd *crowd)
{
	const struct netns *netns = known(&crowd->observer, crowd->nsid);

	assert_non_null(netns);
	return netns->not_before;
}

static void ring_netns(struct crowd *crowd, int32_t nsid)
{
	const struct bell bell = { .netns_changed = true, .nsid = nsid };

	(void)observer_ring(&crowd->observer, &bell);
}

/* As after a read that cost much, so long that no machine is too slow to get there before its end. */
static uint64_t pause_reads(struct crowd *crowd, int32_t nsid, uint64_t pause)
{
	struct netns *netns = (struct netns *)known(&crowd->observer, nsid);

	assert_non_null(netns);
	netns->not_before = monotonic_usec() + pause;
	return netns->not_before;
}

/* A change in the small one that is seen in the same pass. Returns what that cost. */
static uint64_t change_and_see(struct crowd *crowd, int i)
{
	uint64_t begin;

	in_netns(crowd->other,
		i % 2 ? "ip address del 10.3.0.1/32 dev lo" : "ip address add 10.3.0.1/32 dev lo");
	ring_netns(crowd, crowd->small);
	begin = cpu_usec();
	(void)observer_refresh(&crowd->observer, &config);
	assert_non_null(known(&crowd->observer, crowd->small));
	assert_int_equal(known(&crowd->observer, crowd->small)->view.n_addresses, 1 - i % 2);
	return cpu_usec() - begin;
}

static void wait_until_due(const struct crowd *crowd)
{
	while (monotonic_usec() < not_before(crowd))
		(void)usleep(10 * 1000);
}

/* What rang is read when its time has come, and is never forgotten. */
static void assert_read_at_the_end(struct crowd *crowd)
{
	assert_true(known(&crowd->observer, crowd->nsid)->is_stale);
	(void)pause_reads(crowd, crowd->nsid, SHORT_PAUSE);
	assert_true(observer_due(&crowd->observer) > 0);
	assert_true(observer_due(&crowd->observer) <= not_before(crowd));
	wait_until_due(crowd);
	for (int i = 0; i < 100 && known(&crowd->observer, crowd->nsid)->is_stale; i++)
		(void)observer_refresh(&crowd->observer, &config);
	assert_false(known(&crowd->observer, crowd->nsid)->is_stale);
}

/*
 * Whoever lives in a namespace fills it beyond all limits and rings without end: it is read up to the limit and
 * no further, now and then, once more at the end, and others meanwhile.
 */
static void test_a_namespace_filled_beyond_limits(void **state)
{
	enum { SHARE = 10, PAUSE_MAX = 5 * 1000 * 1000 };
	uint64_t begin, end, took, least, best = UINT64_MAX;
	struct crowd crowd;

	(void)state;
	crowd_set_up(&crowd);
	wait_until_due(&crowd);
	ring_netns(&crowd, crowd.nsid);
	begin = monotonic_usec();
	took = cpu_usec();
	assert_int_equal(observer_refresh(&crowd.observer, &config), 0);
	took = cpu_usec() - took;
	end = monotonic_usec();
	assert_false(known(&crowd.observer, crowd.nsid)->is_stale);
	/* Most of the pass was that read. It began after `begin` and was over before `end`. */
	least = SHARE * took / 2 < PAUSE_MAX ? SHARE * took / 2 : PAUSE_MAX;
	assert_true(not_before(&crowd) >= begin + least);
	assert_true(not_before(&crowd) <= end + SHARE * took);
	assert_true(not_before(&crowd) <= end + PAUSE_MAX);
	for (int i = 0; i < 20; i++) {
		uint64_t before = pause_reads(&crowd, crowd.nsid, LONG_PAUSE), cost;

		ring_netns(&crowd, crowd.nsid);
		cost = change_and_see(&crowd, i);
		assert_int_equal(not_before(&crowd), before);
		if (cost < best)
			best = cost;
	}
	print_message("# the full one read in %u us, the small one in %u us\n", (unsigned int)took,
		(unsigned int)best);
	assert_true(best < took / 2);
	assert_read_at_the_end(&crowd);
	crowd_tear_down(&crowd);
}

/* Events from there until some are lost. */
static void flap_in(pid_t pid, int fd, struct bell *sum)
{
	char path[64];
	int netns, own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	flap(200);
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	(void)close(netns);
	(void)close(own);
	*sum = (struct bell){ 0 };
	assert_int_equal(events_read(fd, EVENTS_ALL_NETNS, NSID_NONE, note_bell, sum), 0);
}

/* He rings so much that events are lost: then all is doubtful, and still what he has is read when it is due. */
static void test_overruns_by_a_full_namespace(void **state)
{
	_cleanup_close_ int fd = -1;
	struct crowd crowd;

	(void)state;
	assert_int_equal(events_open(EVENTS_ALL_NETNS, 1, &fd), 0);
	crowd_set_up(&crowd);
	for (int i = 0; i < 20; i++) {
		uint64_t before = pause_reads(&crowd, crowd.nsid, LONG_PAUSE);
		struct bell sum;

		flap_in(crowd.full, fd, &sum);
		assert_true(sum.overrun);
		(void)observer_ring(&crowd.observer, &sum);
		(void)change_and_see(&crowd, i);
		assert_int_equal(not_before(&crowd), before);
	}
	assert_read_at_the_end(&crowd);
	/* What counts is read after each, whatever it cost: its number may be another's by now. */
	for (int i = 0; i < 5; i++) {
		const struct bell lost = { .overrun = true };
		uint64_t before = pause_reads(&crowd, crowd.small, LONG_PAUSE);

		(void)observer_ring(&crowd.observer, &lost);
		(void)observer_refresh(&crowd.observer, &config);
		assert_true(known(&crowd.observer, crowd.small)->not_before < before);
	}
	crowd_tear_down(&crowd);
}

/* A host with thousands of processes: most in the agent's own namespace, some share another. */
static void test_cost_of_processes(void **state)
{
	enum { MANY = 1000, INSIDE = 100 };
	_cleanup_(sightings_done) struct sightings found = { 0 };
	pid_t leader = spawn(CLONE_NEWNET, 0);
	char path[64];
	pid_t *children = calloc(MANY, sizeof(*children));
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), netns;
	uint64_t begin, end, best = UINT64_MAX;

	(void)state;
	assert_non_null(children);
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", leader);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < MANY; i++) {
		if (i == MANY - INSIDE)
			assert_int_equal(setns(netns, CLONE_NEWNET), 0);
		children[i] = fork();
		if (children[i] == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			(void)pause();
			_exit(0);
		}
		assert_true(children[i] > 0);
	}
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	/* Some 10 us each where nobody else works. On a busy machine one of many has its share. */
	for (int i = 0; i < 50 && best >= MANY * 100; i++) {
		sightings_done(&found);
		begin = monotonic_usec();
		assert_int_equal(procs_find(&procs, rtnl, NETNS_MAX, NULL, NULL, &found), 0);
		end = monotonic_usec();
		if (end - begin < best)
			best = end - begin;
	}
	print_message("# %d processes: %d us\n", MANY, (int)best);
	assert_non_null(find_process(&found, leader));
	assert_true(best < MANY * 100);
	for (int i = 0; i < MANY; i++)
		(void)kill(children[i], SIGKILL);
	for (int i = 0; i < MANY; i++)
		(void)waitpid(children[i], NULL, 0);
	free(children);
	(void)close(own);
	(void)close(netns);
	reap(leader);
}

/*
 * Somebody gives the agent's own namespace a number. Kernels before 7.1 put it on its messages, so what changes
 * before the agent knows is taken for another namespace's.
 */
static void test_a_number_of_its_own(void **state)
{
	const struct bell bell = { .nsid = 0, .netns_changed = true };
	_cleanup_(observer_done) struct observer observer;
	size_t before;

	(void)state;
	assert_int_equal(unshare(CLONE_NEWNET), 0); /* that of the tests has one already */
	rtnl_close(rtnl);
	assert_int_equal(rtnl_open(&rtnl), 0);
	observer_init(&observer, rtnl);
	refresh(&observer);
	assert_int_equal(observer.own_nsid, NSID_NONE);
	observer.own_was_numbered = false;
	before = known(&observer, NSID_OWN)->view.n_addresses;
	make("mkdir -p /run/netns && ip netns attach me $$ && ip netns set me auto");
	make("ip address add 198.51.100.77/32 dev lo");
	assert_true(observer_ring(&observer, &bell));
	observer.list_not_before = 0;
	assert_int_equal(observer_refresh(&observer, &config), 0);
	assert_int_not_equal(observer.own_nsid, NSID_NONE);
	assert_true(observer.own_was_numbered);
	assert_int_equal(known(&observer, NSID_OWN)->view.n_addresses, before + 1);
}

static int set_up(void **state)
{
	(void)state;
	if (getpid() != 1 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("proc", "/proc", "proc", 0, NULL) < 0 ||
		mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0)
		return -1;
	config_init(&config);
	return rtnl_open(&rtnl) < 0 || procs_open(&procs) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	rtnl_close(rtnl);
	procs_done(&procs);
	config_done(&config);
	return 0;
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		/* First: the end of former tests' namespaces would be heard in it. */
		/* These begin with numbers that nobody has. */
		cmocka_unit_test(test_reused_number),
		cmocka_unit_test(test_a_number_that_a_stranger_gets),
		cmocka_unit_test(test_late_word_of_a_number),
		cmocka_unit_test(test_a_number_that_changes_hands_during_a_list),
		cmocka_unit_test(test_a_number_that_changes_hands_before_a_scan),
		cmocka_unit_test(test_numbers_that_change_hands_in_each_list),
		cmocka_unit_test(test_numbers_that_cannot_be_followed),
		cmocka_unit_test(test_a_process_that_comes_home),
		cmocka_unit_test(test_processes),
		cmocka_unit_test(test_one_stranger_is_enough),
		cmocka_unit_test(test_a_process_that_moves_on),
		cmocka_unit_test(test_a_label_outlives_its_process),
		cmocka_unit_test(test_reused_pid),
		cmocka_unit_test(test_ended_process),
		cmocka_unit_test(test_odd_files),
		cmocka_unit_test(test_links_to_processes),
		cmocka_unit_test(test_overrun),
		cmocka_unit_test(test_a_flood_of_routes),
		cmocka_unit_test(test_bells_of_nexthops),
		cmocka_unit_test(test_bells_of_neighbours),
		cmocka_unit_test(test_interrupted_dump),
		cmocka_unit_test(test_torn_views),
		cmocka_unit_test(test_nobody_is_waited_for_for_ever),
		cmocka_unit_test(test_what_has_failed_is_not_due),
		cmocka_unit_test(test_a_namespace_filled_beyond_limits),
		cmocka_unit_test(test_overruns_by_a_full_namespace),
		cmocka_unit_test(test_namespace_that_ends_in_mid_dump),
		cmocka_unit_test(test_file_that_goes_before_its_namespace),
		cmocka_unit_test(test_a_crowd_of_strangers),
		cmocka_unit_test(test_proc_is_not_read_for_each_bell),
		cmocka_unit_test(test_cost_of_processes),
		/* Last: it leaves the namespace. */
		cmocka_unit_test(test_a_number_of_its_own),
	};

	return cmocka_run_group_tests_name("discovery", tests, set_up, tear_down);
}

int main(void)
{
	int status;
	pid_t child;

	if (geteuid() != 0) {
		(void)puts("1..0 # SKIP namespaces need root");
		return 0;
	}
	/* In a cgroup namespace no label is that of whoever runs the tests. */
	if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWCGROUP) < 0)
		return EXIT_FAILURE;
	child = fork();
	if (child == 0)
		exit(run());
	if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
		return EXIT_FAILURE;
	return WEXITSTATUS(status);
}
