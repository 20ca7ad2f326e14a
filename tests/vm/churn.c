/* SPDX-License-Identifier: MIT */
/*
 * Changes tunnels of many namespaces by netlink, so that making a change costs next to nothing, and watches
 * from outside how long the agent's map takes to follow.
 *
 *	churn PREFIX NAMESPACES CHANGES RATE KINDS SEED FIRST_REMOTE [MAP]
 *
 * Namespace PREFIXn has a tunnel zn, which is up. RATE is in changes a second, 0 for as fast as possible. KINDS
 * are letters: r another remote, a an address more or less, u down or up, c deleted or made anew. With MAP,
 * the pinned map of remotes, each r is timed. Prints one JSON object.
 */
/* Before linux/if.h, which then leaves out what this has. */
#include <net/if.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "schema/maps.h"
#include "tests/random.h"

#define FIRST_INDEX 100000 /* ours, so that a tunnel made anew need not be looked up */
#define ADDRESS_BASE (UINT32_C(46) << 24)
#define UNDERLAY (UINT32_C(192) << 24 | 2 << 8 | 10)
#define GIVE_UP_NSEC (60 * INT64_C(1000000000))

static void die(const char *what)
{
	(void)fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static int64_t now_nsec(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

struct ship {
	int fd; /* netlink, in its namespace */
	int index;
	bool is_down, is_deleted, has_address;
	uint32_t remote;
	/* A change that is not seen in the map yet. */
	bool pending;
	int64_t asked, heard;
};

static struct ship *ships;
static int n_ships;
static uint32_t next_remote;
static int next_index = FIRST_INDEX;

struct request {
	struct nlmsghdr header;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
	};
	char room[512];
};

static void *append(struct request *request, unsigned short type, const void *data, size_t size)
{
	struct rtattr *attribute =
		(struct rtattr *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(size);
	if (size > 0)
		memcpy(RTA_DATA(attribute), data, size);
	request->header.nlmsg_len =
		(uint32_t)(NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
	return attribute;
}

static void end(const struct request *request, struct rtattr *nest)
{
	nest->rta_len = (unsigned short)((const char *)request + request->header.nlmsg_len -
					 (const char *)nest);
}

static void talk(const struct ship *ship, struct request *request, const char *what)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char room[512];
	} answer;

	request->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (send(ship->fd, request, request->header.nlmsg_len, 0) < 0 ||
		recv(ship->fd, &answer, sizeof(answer), 0) < 0)
		die(what);
	errno = -answer.error.error;
	if (answer.header.nlmsg_type != NLMSG_ERROR || errno != 0)
		die(what);
}

static struct request link_request(int type, int index)
{
	struct request request = { .header = { .nlmsg_len = NLMSG_LENGTH(sizeof(request.link)),
					   .nlmsg_type = (unsigned short)type } };

	request.link.ifi_index = index;
	return request;
}

static void append_ipip(struct request *request, uint32_t remote)
{
	uint32_t local_be = htonl(UNDERLAY), remote_be = htonl(remote);
	struct rtattr *info = append(request, IFLA_LINKINFO, NULL, 0), *data;

	(void)append(request, IFLA_INFO_KIND, "ipip", sizeof("ipip"));
	data = append(request, IFLA_INFO_DATA, NULL, 0);
	(void)append(request, IFLA_IPTUN_LOCAL, &local_be, sizeof(local_be));
	(void)append(request, IFLA_IPTUN_REMOTE, &remote_be, sizeof(remote_be));
	end(request, data);
	end(request, info);
}

static void change_remote(struct ship *ship)
{
	struct request request = link_request(RTM_NEWLINK, ship->index);

	ship->remote = next_remote++;
	append_ipip(&request, ship->remote);
	talk(ship, &request, "change a remote");
}

static void change_flag(struct ship *ship)
{
	struct request request = link_request(RTM_NEWLINK, ship->index);

	ship->is_down = !ship->is_down;
	request.link.ifi_change = IFF_UP;
	request.link.ifi_flags = ship->is_down ? 0 : IFF_UP;
	talk(ship, &request, "change a flag");
}

static void change_address(struct ship *ship)
{
	uint32_t address = htonl(ADDRESS_BASE + (uint32_t)(ship - ships) + 1);
	struct request request = { .header = {
					   .nlmsg_len = NLMSG_LENGTH(sizeof(request.address)) } };

	ship->has_address = !ship->has_address;
	request.header.nlmsg_type = ship->has_address ? RTM_NEWADDR : RTM_DELADDR;
	request.header.nlmsg_flags = ship->has_address ? NLM_F_CREATE | NLM_F_REPLACE
						       : 0; /* a run before may have left it */
	request.address.ifa_family = AF_INET;
	request.address.ifa_prefixlen = 32;
	request.address.ifa_index = (uint32_t)ship->index;
	(void)append(&request, IFA_LOCAL, &address, sizeof(address));
	(void)append(&request, IFA_ADDRESS, &address, sizeof(address));
	talk(ship, &request, "change an address");
}

static void change_existence(struct ship *ship)
{
	struct request request;
	char name[IFNAMSIZ];

	ship->is_deleted = !ship->is_deleted;
	if (ship->is_deleted) {
		request = link_request(RTM_DELLINK, ship->index);
		talk(ship, &request, "delete a tunnel");
		ship->has_address = false;
		return;
	}
	ship->index = next_index++;
	ship->remote = next_remote++;
	request = link_request(RTM_NEWLINK, ship->index);
	request.header.nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	request.link.ifi_change = request.link.ifi_flags = IFF_UP;
	(void)snprintf(name, sizeof(name), "z%d", (int)(ship - ships));
	(void)append(&request, IFLA_IFNAME, name, strlen(name) + 1);
	append_ipip(&request, ship->remote);
	talk(ship, &request, "make a tunnel");
}

/* One that is away comes back; one that is down comes up, for other changes of it make no event. */
static char change(struct ship *ship, const char *kinds)
{
	char kind = kinds[random_below((uint32_t)strlen(kinds))];

	if (ship->is_deleted)
		kind = 'c';
	else if (ship->is_down)
		kind = 'u';
	switch (kind) {
	case 'r':
		change_remote(ship);
		break;
	case 'u':
		change_flag(ship);
		break;
	case 'a':
		change_address(ship);
		break;
	case 'c':
		change_existence(ship);
		break;
	default:
		errno = EINVAL;
		die("kind of change");
	}
	return kind;
}

/* Leaves all tunnels there, and up. */
static void settle(void)
{
	for (int i = 0; i < n_ships; i++) {
		if (ships[i].is_deleted)
			change_existence(&ships[i]);
		if (ships[i].is_down)
			change_flag(&ships[i]);
	}
}

static void open_ships(const char *prefix)
{
	struct rlimit limit = { (rlim_t)n_ships + 64, (rlim_t)n_ships + 64 };
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (own < 0 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("set-up");
	for (int i = 0; i < n_ships; i++) {
		struct request request;
		char text[64];
		int fd;

		(void)snprintf(text, sizeof(text), "/run/netns/%s%d", prefix, i);
		fd = open(text, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
			die(text);
		(void)close(fd);
		(void)snprintf(text, sizeof(text), "z%d", i);
		ships[i].index = (int)if_nametoindex(text);
		ships[i].fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
		if (ships[i].index == 0 || ships[i].fd < 0)
			die(text);
		request = link_request(RTM_NEWLINK, ships[i].index);
		request.link.ifi_change = request.link.ifi_flags = IFF_UP;
		talk(&ships[i], &request, "set up");
	}
	if (setns(own, CLONE_NEWNET) < 0)
		die("setns");
	(void)close(own);
}

static int open_listener(void)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	int on = 1, size = 64 << 20;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
		setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on)) < 0 ||
		bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		die("listen");
	return fd;
}

static struct rtattr *find(void *first, size_t size, unsigned short type)
{
	struct rtattr *attribute = first;
	int left = (int)size;

	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if ((attribute->rta_type & NLA_TYPE_MASK) == type)
			return attribute;
	return NULL;
}

static struct rtattr *find_in(struct rtattr *nest, unsigned short type)
{
	return nest ? find(RTA_DATA(nest), RTA_PAYLOAD(nest), type) : NULL;
}

static void hear_one(struct nlmsghdr *header, int64_t now)
{
	struct rtattr *attribute, *name;
	uint32_t remote;
	int n;

	if (header->nlmsg_type != RTM_NEWLINK)
		return;
	attribute = (struct rtattr *)((char *)NLMSG_DATA(header) +
				      NLMSG_ALIGN(sizeof(struct ifinfomsg)));
	n = (int)NLMSG_PAYLOAD(header, sizeof(struct ifinfomsg));
	name = find(attribute, (size_t)n, IFLA_IFNAME);
	attribute = find_in(find_in(find(attribute, (size_t)n, IFLA_LINKINFO), IFLA_INFO_DATA),
		IFLA_IPTUN_REMOTE);
	if (!name || !attribute || sscanf(RTA_DATA(name), "z%d", &n) != 1 || n < 0 || n >= n_ships)
		return;
	memcpy(&remote, RTA_DATA(attribute), sizeof(remote));
	if (ships[n].pending && ships[n].remote == ntohl(remote) && ships[n].heard == 0)
		ships[n].heard = now;
}

static void hear(int fd)
{
	static _Alignas(struct nlmsghdr) char buffer[65536];

	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			die("the listener");
		for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, n);
			h = NLMSG_NEXT(h, n))
			hear_one(h, now_nsec());
	}
}

static int64_t *from_event, *from_request;
static size_t n_delays, n_unseen;

/* Which of the pending changes are in the map by now. Returns how many are not. */
static int look(int map)
{
	int n = 0;

	for (int i = 0; i < n_ships; i++) {
		struct maps_remote_key key = { .remote = htonl(ships[i].remote) };
		struct maps_entry entry;

		if (!ships[i].pending)
			continue;
		n++;
		if (bpf_map_lookup_elem(map, &key, &entry) < 0)
			continue;
		from_request[n_delays] = now_nsec() - ships[i].asked;
		from_event[n_delays] = ships[i].heard == 0 ? 0 : now_nsec() - ships[i].heard;
		n_delays++;
		ships[i].pending = false;
		n--;
	}
	return n;
}

static void await(int listener, int map, int64_t until)
{
	int64_t begin = now_nsec();

	for (;;) {
		int64_t now = now_nsec();
		bool busy = map >= 0 && (hear(listener), look(map) > 0);
		struct pollfd wait = { listener, POLLIN, 0 };

		if (until > 0 ? now >= until : !busy)
			return;
		if (now > begin + GIVE_UP_NSEC) {
			errno = ETIMEDOUT;
			die("a change is not mapped");
		}
		(void)poll(&wait, 1,
			busy || until - now < 2000000 ? 1 : (int)((until - now) / 1000000));
	}
}

static int compare(const void *pa, const void *pb)
{
	const int64_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

static void print_delays(const char *name, int64_t *list)
{
	qsort(list, n_delays, sizeof(*list), compare);
	if (n_delays > 0)
		(void)printf(", \"%s\": {\"median\": %.2f, \"p99\": %.2f, \"most\": %.2f}", name,
			(double)list[n_delays / 2] / 1e6, (double)list[n_delays * 99 / 100] / 1e6,
			(double)list[n_delays - 1] / 1e6);
}

static void run(int changes, int rate, const char *kinds, int listener, int map)
{
	int64_t begin = now_nsec();

	for (int i = 0; i < changes; i++) {
		struct ship *ship = &ships[random_below((uint32_t)n_ships)];
		int64_t asked;

		if (rate > 0)
			await(listener, map, begin + i * INT64_C(1000000000) / rate);
		n_unseen += ship->pending;
		ship->pending = false;
		asked = now_nsec();
		if (change(ship, kinds) != 'r' || map < 0)
			continue;
		ship->pending = true;
		ship->asked = asked;
		ship->heard = 0;
	}
	(void)printf("{\"changes\": %d, \"rate\": %.1f", changes,
		changes * 1e9 / (double)(now_nsec() - begin));
	if (map >= 0)
		await(listener, map, 0);
	settle();
}

int main(int argc, char **argv)
{
	int changes, map = -1, listener;

	if (argc < 8 || argc > 9) {
		(void)fprintf(stderr,
			"usage: churn PREFIX NAMESPACES CHANGES RATE KINDS SEED FIRST_REMOTE [MAP]\n");
		return EXIT_FAILURE;
	}
	n_ships = atoi(argv[2]);
	changes = atoi(argv[3]);
	random_state = (uint32_t)atoi(argv[6]) * 2654435761U | 1;
	next_remote = (uint32_t)strtoul(argv[7], NULL, 10);
	next_index += (int)(next_remote % 100000000);
	ships = calloc((size_t)n_ships, sizeof(*ships));
	from_event = calloc((size_t)changes + 1, sizeof(*from_event));
	from_request = calloc((size_t)changes + 1, sizeof(*from_request));
	if (!ships || !from_event || !from_request)
		die("memory");
	if (argc == 9 && (map = bpf_obj_get(argv[8])) < 0)
		die(argv[8]);
	open_ships(argv[1]);
	listener = open_listener();
	run(changes, atoi(argv[4]), argv[5], listener, map);
	/* `superseded`: changed once more before the agent had read it, so its remote was never to be mapped. */
	(void)printf(", \"next_remote\": %" PRIu32 ", \"timed\": %zu, \"superseded\": %zu",
		next_remote, n_delays, n_unseen);
	print_delays("from_event_ms", from_event);
	print_delays("from_request_ms", from_request);
	(void)printf("}\n");
	return EXIT_SUCCESS;
}
