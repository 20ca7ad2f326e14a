/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/kern/nl_decode.h"
#include "agent/kern/rtnl.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

#define RECEIVE_BUFFER 65536 /* the kernel fills at most 32 KiB a dump message: netlink_dump() */
#define REPLY_TIMEOUT_S 10 /* the kernel answers at once; this only bounds a kernel that does not */

struct rtnl {
	struct nl_sock *socket; /* NULL after a failure: a fresh one has no half-read dump in it */
};

/* Takes one reply message. 0 or -errno; -ENOENT passes over the message, -E2BIG ends a dump well. */
typedef int reply_fn(struct nlmsghdr *message, void *userdata);

struct exchange {
	reply_fn *reply;
	void *userdata;
	int error;
	bool refused; /* the kernel's answer is an error, and its last word */
	bool ended;   /* the kernel said that this was all */
	bool enough;  /* the rest of the dump is not wanted */
};

DEFINE_CLEANUP(struct nl_sock *, nl_socket_free)
DEFINE_CLEANUP(struct nl_msg *, nlmsg_free)
DEFINE_CLEANUP(struct nl_cb *, nl_cb_put)

static int on_valid(struct nl_msg *message, void *userdata)
{
	struct exchange *exchange = userdata;
	int r;

	if (!(nlmsg_hdr(message)->nlmsg_flags & NLM_F_MULTI))
		exchange->ended = true;
	if (exchange->error < 0 || !exchange->reply)
		return NL_OK; /* read on to the end, so that the socket stays usable */
	r = exchange->reply(nlmsg_hdr(message), exchange->userdata);
	if (r == -E2BIG) {
		exchange->enough = true;
		return NL_STOP;
	}
	if (r < 0 && r != -ENOENT)
		exchange->error = r;
	return NL_OK;
}

static int on_ack(struct nl_msg *message, void *userdata)
{
	struct exchange *exchange = userdata;

	(void)message;
	exchange->ended = true;
	return NL_STOP;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *userdata)
{
	struct exchange *exchange = userdata;

	(void)from;
	exchange->error = error->error;
	exchange->refused = error->error < 0;
	return NL_STOP;
}

/* A dump that fails on its way says so in the payload of NLMSG_DONE, which libnl 3.7 does not read. */
static int on_finish(struct nl_msg *message, void *userdata)
{
	struct exchange *exchange = userdata;
	int error;

	exchange->ended = true;
	if (nl_decode_done(nlmsg_hdr(message), &error) == 0 && error < 0 && exchange->error == 0)
		exchange->error = error;
	return NL_OK;
}

static int socket_open(struct nl_sock **ret)
{
	_cleanup_(nl_socket_freep) struct nl_sock *sk = nl_socket_alloc();
	struct timeval timeout = { .tv_sec = REPLY_TIMEOUT_S };
	int on = 1, fd;

	if (!sk)
		return -ENOMEM;
	if (nl_connect(sk, NETLINK_ROUTE) < 0)
		return errno > 0 ? -errno : -EIO;
	nl_socket_disable_auto_ack(sk);
	nl_socket_disable_msg_peek(sk);
	if (nl_socket_set_msg_buf_size(sk, RECEIVE_BUFFER) < 0)
		return -ENOMEM;
	fd = nl_socket_get_fd(sk);
	/* IFLA_TARGET_NETNSID and the filter by kind are honoured in strict dumps only. */
	if (setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	*ret = TAKE_PTR(sk);
	return 0;
}

int rtnl_open(struct rtnl **ret)
{
	struct rtnl *rtnl = calloc(1, sizeof(*rtnl));
	int r;

	if (!rtnl)
		return -ENOMEM;
	r = socket_open(&rtnl->socket);
	if (r < 0) {
		free(rtnl);
		return r;
	}
	*ret = rtnl;
	return 0;
}

void rtnl_close(struct rtnl *rtnl)
{
	if (!rtnl)
		return;
	nl_socket_free(rtnl->socket);
	free(rtnl);
}

/* libnl folds many errors into one; only these come from reading, as opposed to the kernel's answer. */
static int receive_error(int nle)
{
	switch (nle) {
	case -NLE_DUMP_INTR:
	case -NLE_NOMEM: /* ENOBUFS, says libnl */
	case -NLE_AGAIN:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

static int exchange_on(struct nl_sock *sk, struct nl_msg *request, struct exchange *exchange)
{
	_cleanup_(nl_cb_putp) struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int n;

	if (!cb)
		return -ENOMEM;
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, exchange);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_finish, exchange);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_ack, exchange);
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, exchange);
	if (nl_send_auto(sk, request) < 0)
		return -EIO;
	n = nl_recvmsgs(sk, cb);
	if (exchange->enough)
		return 0;
	if (exchange->error < 0)
		return exchange->error;
	if (n < 0)
		return receive_error(n);
	return exchange->ended ? 0 : -EAGAIN; /* nothing came: that is no empty list */
}

static int transact(struct rtnl *rtnl, struct nl_msg *request, reply_fn *reply, void *userdata)
{
	struct exchange exchange = { .reply = reply, .userdata = userdata };
	int r;

	if (!rtnl->socket) {
		r = socket_open(&rtnl->socket);
		if (r < 0)
			return r;
	}
	r = exchange_on(rtnl->socket, request, &exchange);
	if (exchange.enough || (r < 0 && !exchange.refused)) {
		nl_socket_free(rtnl->socket); /* with the kernel's dump, were it under way */
		rtnl->socket = NULL;
	}
	return r;
}

static struct nl_msg *message_new(int type, int flags, const void *header, size_t size)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (!message || nlmsg_append(message, (void *)header, size, NLMSG_ALIGNTO) < 0)
		return NULL;
	return TAKE_PTR(message);
}

static int on_nsid(struct nlmsghdr *message, void *userdata)
{
	return nl_decode_nsid(message, userdata);
}

/* `attribute` says by what the namespace is meant: NETNSA_FD, NETNSA_PID or NETNSA_NSID. */
static int nsid_request(
	struct rtnl *rtnl, int type, int flags, int attribute, uint32_t value, int32_t *nsid)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct rtgenmsg header = { .rtgen_family = AF_UNSPEC };

	message = message_new(type, flags, &header, sizeof(header));
	if (!message || nla_put_u32(message, attribute, value) < 0)
		return -ENOMEM;
	if (type == RTM_NEWNSID && nla_put_s32(message, NETNSA_NSID, -1) < 0)
		return -ENOMEM;
	return transact(rtnl, message, type == RTM_GETNSID ? on_nsid : NULL, nsid);
}

static int ask_nsid(struct rtnl *rtnl, int attribute, uint32_t value, int32_t *ret_nsid)
{
	int32_t nsid = NETNSA_NSID_NOT_ASSIGNED;
	int r;

	r = nsid_request(rtnl, RTM_GETNSID, NLM_F_REQUEST, attribute, value, &nsid);
	if (r < 0)
		return r;
	*ret_nsid = nsid == NETNSA_NSID_NOT_ASSIGNED ? NSID_NONE : nsid;
	return 0;
}

static int get_nsid(struct rtnl *rtnl, int attribute, uint32_t value, int32_t *ret_nsid)
{
	int32_t nsid;
	int r;

	r = ask_nsid(rtnl, attribute, value, &nsid);
	if (r < 0)
		return r;
	if (nsid == NSID_NONE) {
		r = nsid_request(
			rtnl, RTM_NEWNSID, NLM_F_REQUEST | NLM_F_ACK, attribute, value, NULL);
		if (r < 0 && r != -EEXIST) /* somebody was faster: all the same */
			return r;
		r = ask_nsid(rtnl, attribute, value, &nsid);
		if (r < 0)
			return r;
	}
	if (nsid == NSID_NONE)
		return -EAGAIN;
	*ret_nsid = nsid;
	return 0;
}

int rtnl_get_nsid(struct rtnl *rtnl, int netns_fd, int32_t *ret_nsid)
{
	return get_nsid(rtnl, NETNSA_FD, (uint32_t)netns_fd, ret_nsid);
}

int rtnl_get_nsid_of_process(struct rtnl *rtnl, uint32_t pid, int32_t *ret_nsid)
{
	return get_nsid(rtnl, NETNSA_PID, pid, ret_nsid);
}

int rtnl_ask_nsid(struct rtnl *rtnl, int netns_fd, int32_t *ret_nsid)
{
	return ask_nsid(rtnl, NETNSA_FD, (uint32_t)netns_fd, ret_nsid);
}

int rtnl_check_nsid(struct rtnl *rtnl, int32_t nsid)
{
	int32_t same;

	return ask_nsid(rtnl, NETNSA_NSID, (uint32_t)nsid, &same);
}

struct nsids {
	int32_t *list;
	size_t n;
};

static int on_listed_nsid(struct nlmsghdr *message, void *userdata)
{
	struct nsids *nsids = userdata;
	int32_t nsid, *slot;
	int r;

	r = nl_decode_nsid(message, &nsid);
	if (r < 0)
		return r;
	slot = ARRAY_APPEND(nsids->list, nsids->n);
	if (!slot)
		return -ENOMEM;
	*slot = nsid;
	nsids->n++;
	return 0;
}

static int compare_nsids(const void *pa, const void *pb)
{
	const int32_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

int rtnl_list_nsids(struct rtnl *rtnl, int32_t **ret, size_t *ret_n)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct rtgenmsg header = { .rtgen_family = AF_UNSPEC };
	struct nsids nsids = { 0 };
	int r;

	message = message_new(RTM_GETNSID, NLM_F_REQUEST | NLM_F_DUMP, &header, sizeof(header));
	if (!message)
		return -ENOMEM;
	r = transact(rtnl, message, on_listed_nsid, &nsids);
	if (r < 0) {
		free(nsids.list);
		return r;
	}
	if (nsids.n > 0)
		qsort(nsids.list, nsids.n, sizeof(*nsids.list), compare_nsids);
	*ret = nsids.list;
	*ret_n = nsids.n;
	return 0;
}

static int on_link(struct nlmsghdr *message, void *userdata)
{
	struct netns_view *view = userdata;
	struct ipip_link link, *slot;
	int r;

	r = nl_decode_ipip(message, &link);
	if (r < 0)
		return r;
	if (view->n_links == NETNS_LINKS_MAX) {
		view->truncated = true;
		return -E2BIG;
	}
	slot = ARRAY_APPEND(view->links, view->n_links);
	if (!slot)
		return -ENOMEM;
	*slot = link;
	view->n_links++;
	return 0;
}

static int on_address(struct nlmsghdr *message, void *userdata)
{
	struct netns_view *view = userdata;
	struct netns_address address, *slot;
	int r;

	r = nl_decode_address(message, &address);
	if (r < 0)
		return r;
	if (view->n_addresses == NETNS_ADDRESSES_MAX) {
		view->truncated = true;
		return -E2BIG;
	}
	slot = ARRAY_APPEND(view->addresses, view->n_addresses);
	if (!slot)
		return -ENOMEM;
	*slot = address;
	view->n_addresses++;
	return 0;
}

static int dump_links(struct rtnl *rtnl, int32_t nsid, struct netns_view *view)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nlattr *info;

	message = message_new(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &header, sizeof(header));
	if (!message)
		return -ENOMEM;
	if (nsid != NSID_OWN && nla_put_s32(message, IFLA_TARGET_NETNSID, nsid) < 0)
		return -ENOMEM;
	info = nla_nest_start(message, IFLA_LINKINFO);
	if (!info || nla_put_string(message, IFLA_INFO_KIND, "ipip") < 0)
		return -ENOMEM;
	(void)nla_nest_end(message, info);
	return transact(rtnl, message, on_link, view);
}

static int dump_addresses(struct rtnl *rtnl, int32_t nsid, struct netns_view *view)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct ifaddrmsg header = { .ifa_family = AF_INET };

	message = message_new(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &header, sizeof(header));
	if (!message)
		return -ENOMEM;
	if (nsid != NSID_OWN && nla_put_s32(message, IFA_TARGET_NETNSID, nsid) < 0)
		return -ENOMEM;
	return transact(rtnl, message, on_address, view);
}

static int leave_out_newcomers(struct rtnl *rtnl, struct netns_view *view)
{
	_cleanup_(netns_view_done) struct netns_view later = { 0 };
	int r = dump_links(rtnl, NSID_OWN, &later);

	if (r == 0)
		netns_view_leave_out_newcomers(view, &later);
	return r;
}

int rtnl_read_netns(struct rtnl *rtnl, int32_t nsid, struct netns_view *ret)
{
	_cleanup_(netns_view_done) struct netns_view view = { 0 };
	int r;

	r = dump_links(rtnl, nsid, &view);
	if (r < 0)
		return r;
	r = dump_addresses(rtnl, nsid, &view);
	if (r == 0 && nsid == NSID_OWN)
		r = leave_out_newcomers(rtnl, &view);
	if (r < 0)
		return r;
	netns_view_sort(&view);
	*ret = view;
	view = (struct netns_view){ 0 };
	return 0;
}

static int on_interface(struct nlmsghdr *message, void *userdata)
{
	return nl_decode_interface(message, userdata);
}

static int get_interface(
	struct rtnl *rtnl, uint32_t ifindex, const char *name, struct host_interface *ret)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = (int)ifindex };
	struct host_interface interface = { 0 };
	int r;

	message = message_new(RTM_GETLINK, NLM_F_REQUEST, &header, sizeof(header));
	if (!message || (name && nla_put_string(message, IFLA_IFNAME, name) < 0))
		return -ENOMEM;
	r = transact(rtnl, message, on_interface, &interface);
	if (r < 0)
		return r;
	*ret = interface;
	return 0;
}

int rtnl_get_interface(struct rtnl *rtnl, const char *name, struct host_interface *ret)
{
	return get_interface(rtnl, 0, name, ret);
}

int rtnl_get_interface_by_index(struct rtnl *rtnl, uint32_t ifindex, struct host_interface *ret)
{
	return get_interface(rtnl, ifindex, NULL, ret);
}

/* The kernel is strict about what a request for one neighbour says, so `ndm` says no more than it must. */
static struct nl_msg *neighbour_message(
	int type, int flags, uint8_t ndm_flags, uint32_t ifindex, struct ip4 address)
{
	struct ndmsg header = {
		.ndm_family = AF_INET, .ndm_ifindex = (int)ifindex, .ndm_flags = ndm_flags
	};
	_cleanup_(nlmsg_freep) struct nl_msg *message =
		message_new(type, flags, &header, sizeof(header));

	if (!message || nla_put_u32(message, NDA_DST, address.be) < 0)
		return NULL;
	return TAKE_PTR(message);
}

static int on_neighbour(struct nlmsghdr *message, void *userdata)
{
	return nl_decode_neighbour(message, userdata);
}

int rtnl_get_neighbour(
	struct rtnl *rtnl, uint32_t ifindex, struct ip4 address, struct neighbour *ret)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message =
		neighbour_message(RTM_GETNEIGH, NLM_F_REQUEST, 0, ifindex, address);
	struct neighbour found = { 0 };
	int r;

	if (!message)
		return -ENOMEM;
	r = transact(rtnl, message, on_neighbour, &found);
	if (r < 0)
		return r;
	*ret = found;
	return 0;
}

int rtnl_use_neighbour(struct rtnl *rtnl, uint32_t ifindex, struct ip4 address)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = neighbour_message(
		RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, NTF_USE, ifindex, address);

	return message ? transact(rtnl, message, NULL, NULL) : -ENOMEM;
}

static int on_route(struct nlmsghdr *message, void *userdata)
{
	struct route route;
	int r;

	r = nl_decode_route(message, &route);
	return r < 0 ? r : routes_add(userdata, &route);
}

static int on_rule(struct nlmsghdr *message, void *userdata)
{
	struct routes *routes = userdata;
	bool plain;
	int r;

	r = nl_decode_rule(message, &plain);
	if (r == 0)
		routes->rules_plain = routes->rules_plain && plain;
	return r;
}

int rtnl_read_routes(struct rtnl *rtnl, struct routes *ret)
{
	_cleanup_(nlmsg_freep) struct nl_msg *get_rules = NULL, *get_routes = NULL;
	_cleanup_(routes_done) struct routes routes = { .rules_plain = true };
	struct fib_rule_hdr rule = { .family = AF_INET };
	struct rtmsg route = { .rtm_family = AF_INET };
	int r;

	get_rules = message_new(RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, &rule, sizeof(rule));
	get_routes = message_new(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, &route, sizeof(route));
	if (!get_rules || !get_routes)
		return -ENOMEM;
	r = transact(rtnl, get_rules, on_rule, &routes);
	if (r == 0)
		r = transact(rtnl, get_routes, on_route, &routes);
	if (r < 0)
		return r;
	*ret = routes;
	routes = (struct routes){ 0 };
	return 0;
}
