/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/core/snapshot.h"
#include "agent/kern/events.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

/*
 * The default of 208 KiB holds some 150 link messages; a host that starts hundreds of servers at once
 * sends more before the agent is scheduled. Beyond rmem_max it needs CAP_NET_ADMIN, which the agent has.
 */
#define RECEIVE_BUFFER_DEFAULT (8 * 1024 * 1024)
#define MESSAGE_MAX 65536

int events_open(int receive_buffer, int *ret_fd)
{
	static const int groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_NSID,
		RTNLGRP_IPV4_ROUTE };
	const struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	_cleanup_close_ int fd = -1;
	int on = 1, size = receive_buffer > 0 ? receive_buffer : RECEIVE_BUFFER_DEFAULT;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 &&
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
		return -errno;
	if (setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on)) < 0)
		return -errno;
	/* Without a port id of its own it would pass for the sender, the kernel, and hear nothing. */
	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return -errno;
	for (size_t i = 0; i < ELEMENTS_OF(groups); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
			    sizeof(groups[i])) < 0)
			return -errno;
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

static void ring_for(int type, int32_t nsid, bell_fn *ring, void *userdata)
{
	struct bell bell = { .nsid = nsid };

	switch (type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		bell.netns_changed = true;
		bell.routes_changed = nsid == NSID_OWN;
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		bell.netns_changed = true;
		break;
	case RTM_NEWNSID:
	case RTM_DELNSID:
		bell.nsids_changed = nsid == NSID_OWN;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		bell.routes_changed = nsid == NSID_OWN;
		break;
	default:
		break;
	}
	if (bell.netns_changed || bell.nsids_changed || bell.routes_changed)
		ring(&bell, userdata);
}

static int read_one(int fd, bell_fn *ring, void *userdata)
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
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return -ENOBUFS;
	nsid = nsid_of(&message);
	for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
		ring_for(h->nlmsg_type, nsid, ring, userdata);
	return 0;
}

int events_read(int fd, bell_fn *ring, void *userdata)
{
	for (;;) {
		int r = read_one(fd, ring, userdata);

		if (r == -EAGAIN)
			return 0;
		if (r == -ENOBUFS) {
			struct bell bell = { .nsid = NSID_OWN, .overrun = true };

			ring(&bell, userdata);
		} else if (r < 0 && r != -EINTR) {
			return r;
		}
	}
}
