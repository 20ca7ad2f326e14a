/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/core/snapshot.h"
#include "agent/kern/events.h"
#include "agent/kern/nl_decode.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

/*
 * The default of 208 KiB holds some 150 link messages; a host that starts hundreds of servers at once
 * sends more before the agent is scheduled. Beyond rmem_max it needs CAP_NET_ADMIN, which the agent has.
 */
#define RECEIVE_BUFFER_DEFAULT (8 * 1024 * 1024)
#define MESSAGE_MAX 65536
/* Who is flooded like that does something else in between. */
#define OVERRUNS_MAX 16

static int join(int fd, const int *groups, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
			    sizeof(groups[i])) < 0)
			return -errno;
	return 0;
}

static int subscribe(int fd, enum events_scope scope)
{
	static const int all[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_NSID };
	static const int own[] = { RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_NEIGH,
		RTNLGRP_NEXTHOP, RTNLGRP_TC };
	static const int nsids[] = { RTNLGRP_NSID };

	switch (scope) {
	case EVENTS_ALL_NETNS:
		return join(fd, all, ELEMENTS_OF(all));
	case EVENTS_OWN_NETNS:
		return join(fd, own, ELEMENTS_OF(own));
	case EVENTS_NSIDS:
		return join(fd, nsids, ELEMENTS_OF(nsids));
	}
	return -EINVAL;
}

int events_open(enum events_scope scope, int receive_buffer, int *ret_fd)
{
	const struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	_cleanup_close_ int fd = -1;
	int on = 1, size = receive_buffer > 0 ? receive_buffer : RECEIVE_BUFFER_DEFAULT, r;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 &&
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
		return -errno;
	if (scope == EVENTS_ALL_NETNS &&
		setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on)) < 0)
		return -errno;
	/* Without a port id of its own it would pass for the sender, the kernel, and hear nothing. */
	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return -errno;
	r = subscribe(fd, scope);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Messages of the own namespace carry no nsid: net/netlink/af_netlink.c, netlink_cmsg_listen_all_nsid(). */
static int32_t nsid_of(struct msghdr *message)
{
	int32_t nsid;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_NETLINK || c->cmsg_type != NETLINK_LISTEN_ALL_NSID ||
			c->cmsg_len < CMSG_LEN(sizeof(nsid)))
			continue;
		memcpy(&nsid, CMSG_DATA(c), sizeof(nsid));
		return nsid;
	}
	return NSID_OWN;
}

/* Which neighbour a message is about. */
static bool find_neighbour(struct nlmsghdr *message, struct bell *bell)
{
	const struct ndmsg *header = NLMSG_DATA(message);
	struct rtattr *attribute = (struct rtattr *)((char *)header + NLMSG_ALIGN(sizeof(*header)));
	int left = (int)NLMSG_PAYLOAD(message, sizeof(*header));

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*header)) || header->ndm_family != AF_INET)
		return false;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type != NDA_DST || RTA_PAYLOAD(attribute) < sizeof(struct ip4))
			continue;
		bell->neighbour_ifindex = (uint32_t)header->ndm_ifindex;
		memcpy(&bell->neighbour, RTA_DATA(attribute), sizeof(bell->neighbour));
		return true;
	}
	return false;
}

/* Where a route leads. Not a default one: of whom that decides is a matter of all the others. */
static bool find_route(struct nlmsghdr *message, struct bell *bell)
{
	const struct rtmsg *header = NLMSG_DATA(message);
	struct rtattr *attribute = (struct rtattr *)((char *)header + NLMSG_ALIGN(sizeof(*header)));
	int left = (int)NLMSG_PAYLOAD(message, sizeof(*header));

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*header)) || header->rtm_family != AF_INET ||
		header->rtm_dst_len == 0 || header->rtm_dst_len > 32)
		return false;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type != RTA_DST || RTA_PAYLOAD(attribute) < sizeof(struct ip4))
			continue;
		memcpy(&bell->route.address, RTA_DATA(attribute), sizeof(bell->route.address));
		bell->route.length = header->rtm_dst_len;
		return true;
	}
	return false;
}

static bool find_tc(struct nlmsghdr *message, struct bell *bell)
{
	const struct tcmsg *header = NLMSG_DATA(message);

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*header)) || header->tcm_ifindex <= 0)
		return false;
	bell->tc_ifindex = (uint32_t)header->tcm_ifindex;
	return true;
}

static void ring_for(struct nlmsghdr *message, int32_t nsid, bell_fn *ring, void *userdata)
{
	struct bell bell = { .nsid = nsid, .changed_nsid = NSID_NONE };
	bool known;

	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		bell.netns_changed = true;
		bell.routes_changed = nsid == NSID_OWN;
		bell.veth_changed = nsid == NSID_OWN && nl_is_veth(message);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		bell.netns_changed = true;
		break;
	case RTM_NEWNSID:
	case RTM_DELNSID:
		known = nl_decode_nsid(message, &bell.changed_nsid) == 0;
		bell.nsid_given = known && nsid == NSID_OWN && message->nlmsg_type == RTM_NEWNSID;
		bell.nsid_taken = known && nsid == NSID_OWN && message->nlmsg_type == RTM_DELNSID;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		bell.routes_changed = true;
		bell.one_route = find_route(message, &bell);
		break;
	case RTM_NEWRULE:
	case RTM_DELRULE:
	/* A route whose nexthop goes, or changes, need not be told of: net/ipv4/nexthop.c, __remove_nexthop_fib(). */
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		bell.routes_changed = true;
		break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		bell.neighbour_changed = find_neighbour(message, &bell);
		break;
	case RTM_DELQDISC:
	case RTM_NEWTFILTER: /* in place of ours */
	case RTM_DELTFILTER:
		bell.tc_changed = find_tc(message, &bell);
		break;
	default:
		break;
	}
	if (bell.netns_changed || bell.nsid_given || bell.nsid_taken || bell.routes_changed ||
		bell.neighbour_changed || bell.tc_changed)
		ring(&bell, userdata);
}

void events_decode(void *buffer, size_t size, int32_t nsid, bell_fn *ring, void *userdata)
{
	ssize_t left = (ssize_t)size;

	for (struct nlmsghdr *h = buffer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
		ring_for(h, nsid, ring, userdata);
}

static int read_one(int fd, int32_t own_nsid, bell_fn *ring, void *userdata)
{
	static _Alignas(struct nlmsghdr) char buffer[MESSAGE_MAX];
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int32_t)) + CMSG_SPACE(64)];
	struct sockaddr_nl from = { 0 };
	struct iovec iov = { .iov_base = buffer, .iov_len = sizeof(buffer) };
	struct msghdr message = { .msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
	int32_t nsid;

	if (n < 0)
		return -errno;
	if (from.nl_pid != 0) /* only the kernel may ring */
		return 0;
	/* Nor is any of theirs empty: what they said is lost. */
	if ((size_t)n < sizeof(struct nlmsghdr) || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return -ENOBUFS;
	nsid = nsid_of(&message);
	if (nsid == own_nsid)
		nsid = NSID_OWN;
	events_decode(buffer, (size_t)n, nsid, ring, userdata);
	return 0;
}

int events_read(int fd, enum events_scope scope, int32_t own_nsid, bell_fn *ring, void *userdata)
{
	for (int overruns = 0; overruns < OVERRUNS_MAX;) {
		int r = read_one(fd, own_nsid, ring, userdata);

		if (r == -EAGAIN || r == -EINTR) /* the socket stays readable, if it was */
			return 0;
		if (r == -ENOBUFS || r == -ENOMEM) {
			/* Links of the agent's own come with those of all. */
			struct bell bell = { .nsid = NSID_OWN,
				.routes_changed = true,
				.overrun = scope != EVENTS_OWN_NETNS,
				.own_overrun = scope == EVENTS_OWN_NETNS };

			ring(&bell, userdata);
			overruns++;
		} else if (r < 0) {
			return r;
		}
	}
	return 0;
}
