/* SPDX-License-Identifier: MIT */
/*
 * What the attached program believes of an agent: not longer than somebody keeps it true, and not of whom routes may have
 * changed. With a real program, in network and mount namespaces of the test's own.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/snapshot.h"
#include "agent/interfaces.h"
#include "agent/kern/events.h"
#include "agent/kern/strip.h"
#include "agent/util/cleanup.h"
#include "agent/util/clock.h"
#include "tests/unit/unit.h"

#define ROWS 16
#define FDS_MAX 256
#define IFINDEX 2
#define LONG_PAUSE (600 * USEC_PER_SEC)
#define WITHIN (30 * USEC_PER_SEC)

static struct dataplane *load(void)
{
	struct dataplane *dataplane = NULL;

	assert_int_equal(dataplane_load(ROWS, strip_flags(), &dataplane), 0);
	return dataplane;
}

/* Of our own descriptors: other agents of the machine have maps of that name. Returns its id. */
static uint32_t find_alive(int *ret_fd)
{
	for (int fd = 0; fd < FDS_MAX; fd++) {
		struct bpf_map_info info = { 0 };
		uint32_t size = sizeof(info);

		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
			info.type == BPF_MAP_TYPE_PROG_ARRAY && strcmp(info.name, "alive") == 0) {
			*ret_fd = fd;
			return info.id;
		}
	}
	fail_msg("no such map");
	return 0;
}

/* Whether the program finds its way to what believes an agent. */
static bool is_open(int alive)
{
	uint32_t found;

	for (uint32_t i = 0; i < 2; i++)
		if (bpf_map_lookup_elem(alive, &i, &found) == 0)
			return true;
	return false;
}

/* As a child has it that an agent made before a reload. */
static void test_a_copy_of_the_descriptor_keeps_nothing_open(void **state)
{
	struct dataplane *dataplane = load();
	_cleanup_close_ int copy = -1;
	int alive;

	(void)state;
	(void)find_alive(&alive);
	copy = fcntl(alive, F_DUPFD_CLOEXEC, 0);
	assert_true(copy >= 0 && is_open(copy));
	dataplane_free(dataplane);
	assert_false(is_open(copy));
}

struct agent {
	pid_t pid, child;
	uint32_t alive;
};

/* An agent with a child that lives on, whatever becomes of it. */
__attribute__((noreturn)) static void be_agent(int out)
{
	struct dataplane *dataplane = load();
	struct agent agent = { .pid = getpid() };
	int fd;

	agent.alive = find_alive(&fd);
	agent.child = fork();
	if (agent.child == 0)
		dataplane_drop_alive(dataplane);
	/* The child says that it has let go. */
	if (agent.child == 0 && write(out, &(struct agent){ .child = getpid() }, sizeof(agent)) < 0)
		_exit(1);
	if (agent.child > 0 && write(out, &agent, sizeof(agent)) < 0)
		_exit(1);
	for (;;)
		(void)pause();
}

static bool is_open_still(uint32_t id)
{
	_cleanup_close_ int fd = bpf_map_get_fd_by_id(id);

	return fd >= 0 && is_open(fd);
}

static void test_a_child_keeps_nothing_open_after_its_agents_death(void **state)
{
	struct agent said[2], agent;
	uint64_t start = monotonic_usec();
	bool was_open, stays_open;
	int pipes[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		be_agent(pipes[1]);
	for (int i = 0; i < 2; i++)
		assert_int_equal(read(pipes[0], &said[i], sizeof(said[i])), sizeof(said[i]));
	agent = said[said[0].pid == pid ? 0 : 1];
	was_open = is_open_still(agent.alive);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	/* The kernel empties it a moment later. */
	while (is_open_still(agent.alive) && monotonic_usec() - start < WITHIN)
		(void)usleep(1000);
	stays_open = is_open_still(agent.alive);
	assert_int_equal(kill(agent.child, SIGKILL), 0); /* it lived on until now */
	assert_true(was_open && !stays_open);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
}

/* ---- routes that are not to be read yet */

static bool is_marked(const struct maps_uplink *uplink, uint32_t address)
{
	uint32_t bit = address >> (32 - MAPS_UPLINK_PREFIX);

	return uplink->routed[bit / 8] >> bit % 8 & 1;
}

struct follower {
	struct dataplane *dataplane;
	struct interfaces interfaces;
	struct status_interface list;
	struct maps_uplink *uplink;
	int fd;
};

/* As after a read of the routes: the program has the shortcut, and they are left alone for `pause`. */
static void told(struct follower *follower, uint64_t pause)
{
	follower->list.attachment.ifindex = IFINDEX;
	follower->list.next_hop = UPLINK_SHORTCUT;
	follower->interfaces = (struct interfaces){
		.dataplane = follower->dataplane,
		.read_again = monotonic_usec() + pause,
		.list = &follower->list,
		.n = 1,
	};
	follower->uplink = &dataplane_tables(follower->dataplane)->uplinks[IFINDEX % MAPS_UPLINKS];
	*follower->uplink = (struct maps_uplink){ .ifindex = IFINDEX, .is_default = 1 };
}

static void ring(const struct bell *bell, void *userdata)
{
	assert_true(interfaces_ring(userdata, bell) || !bell->routes_changed);
}

/* What `command` has the kernel tell. */
static void hear(struct follower *follower, const char *command)
{
	assert_int_equal(system(command), 0);
	assert_int_equal(
		events_read(follower->fd, EVENTS_OWN_NETNS, NSID_NONE, ring, &follower->interfaces),
		0);
	assert_true(follower->interfaces.stale && follower->interfaces.untold);
}

static void test_of_a_route_that_is_added_at_once_nothing_is_believed(void **state)
{
	struct follower *follower = *state;

	told(follower, LONG_PAUSE);
	assert_false(is_marked(follower->uplink, 0x09090901));
	hear(follower, "ip route add 9.9.9.0/24 dev lo");
	assert_true(is_marked(follower->uplink, 0x09090901));
	assert_false(is_marked(follower->uplink, 0x09070901));
	/* All others have the shortcut as before. */
	assert_int_equal(follower->uplink->ifindex, IFINDEX);
	assert_int_equal(follower->list.next_hop, UPLINK_SHORTCUT);
	hear(follower, "ip route del 9.9.9.0/24 dev lo");
	assert_int_equal(follower->uplink->ifindex, IFINDEX);
}

static void test_what_may_be_about_all_is_believed_of_nobody(void **state)
{
	static const char *const commands[] = { "ip route add default dev lo metric 7",
		"ip route del default dev lo metric 7", "ip rule add fwmark 1 lookup 77 pref 77",
		"ip rule del pref 77", "ip nexthop add id 10 dev lo", "ip nexthop del id 10" };
	struct follower *follower = *state;

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		told(follower, LONG_PAUSE);
		hear(follower, commands[i]);
		assert_int_equal(follower->uplink->ifindex, 0);
		assert_int_equal(follower->list.next_hop, UPLINK_UNREAD);
	}
}

static void test_lost_bells_may_be_about_all(void **state)
{
	const struct bell bell = { .nsid = NSID_OWN, .routes_changed = true, .own_overrun = true };
	struct follower *follower = *state;

	told(follower, LONG_PAUSE);
	assert_true(interfaces_ring(&follower->interfaces, &bell));
	assert_int_equal(follower->uplink->ifindex, 0);
}

/* In a pass nothing is believed; afterwards what was believed before, but for what was heard. */
static void test_what_is_believed_in_a_pass_and_afterwards(void **state)
{
	struct follower *follower = *state;

	told(follower, LONG_PAUSE);
	interfaces_suspend(&follower->interfaces);
	assert_int_not_equal(follower->uplink->ifindex, IFINDEX);
	hear(follower, "ip route add 9.9.9.0/24 dev lo");
	assert_int_not_equal(follower->uplink->ifindex, IFINDEX);
	interfaces_resume(&follower->interfaces);
	assert_int_equal(follower->uplink->ifindex, IFINDEX);
	assert_true(is_marked(follower->uplink, 0x09090901));
	interfaces_suspend(&follower->interfaces);
	hear(follower, "ip route add default dev lo metric 7");
	interfaces_resume(&follower->interfaces);
	assert_int_equal(follower->uplink->ifindex, 0);
	assert_int_equal(system("ip route del default dev lo metric 7"), 0);
	hear(follower, "ip route del 9.9.9.0/24 dev lo");
}

/* Of few routes, which are read anew in milliseconds: a link that comes costs nobody the shortcut. */
static void test_what_is_read_right_away_is_not_doubted(void **state)
{
	const struct bell bell = {
		.nsid = NSID_OWN, .netns_changed = true, .routes_changed = true
	};
	struct follower *follower = *state;

	told(follower, 0);
	assert_true(interfaces_ring(&follower->interfaces, &bell));
	assert_int_equal(follower->uplink->ifindex, IFINDEX);
	assert_int_equal(follower->list.next_hop, UPLINK_SHORTCUT);
}

static int set_up(void **state)
{
	static struct follower follower;

	follower.dataplane = load();
	*state = &follower;
	return events_open(EVENTS_OWN_NETNS, 0, &follower.fd);
}

static int tear_down(void **state)
{
	struct follower *follower = *state;

	dataplane_free(follower->dataplane);
	return close(follower->fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_copy_of_the_descriptor_keeps_nothing_open),
		cmocka_unit_test(test_a_child_keeps_nothing_open_after_its_agents_death),
		cmocka_unit_test_setup_teardown(
			test_of_a_route_that_is_added_at_once_nothing_is_believed, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			test_what_may_be_about_all_is_believed_of_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_what_is_believed_in_a_pass_and_afterwards, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_lost_bells_may_be_about_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_what_is_read_right_away_is_not_doubted, set_up, tear_down),
	};

	if (geteuid() != 0) {
		(void)puts("1..0 # SKIP namespaces and BPF need root");
		return 0;
	}
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL) < 0 || system("ip link set lo up") != 0)
		return EXIT_FAILURE;
	return cmocka_run_group_tests_name("belief", tests, NULL, NULL);
}
