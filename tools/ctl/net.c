/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <string.h>

#include "agent/core/snapshot.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/net.h"

#define ATTACH_TCX_EGRESS 47 /* linux/bpf.h of 6.6 */
#define REPLY_TIMEOUT_S 5

/* Takes one reply message. 0, or -errno, which ends it. */
typedef int reply_fn(struct nlmsghdr *message, void *userdata);

struct exchange {
	reply_fn *reply;
	void *userdata;
	int error;
};

DEFINE_CLEANUP(struct nl_sock *, nl_socket_free)
DEFINE_CLEANUP(struct nl_msg *, nlmsg_free)

static int on_valid(struct nl_msg *message, void *userdata)
{
	struct exchange *exchange = userdata;

	if (exchange->error == 0)
		exchange->error = exchange->reply(nlmsg_hdr(message), exchange->userdata);
	return NL_OK;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *userdata)
{
	struct exchange *exchange = userdata;

	(void)from;
	exchange->error = error->error;
	return NL_STOP;
}

/* One socket a question: there are few of them. */
static int ask(struct nl_msg *request, reply_fn *reply, void *userdata)
{
	_cleanup_(nl_socket_freep) struct nl_sock *sk = nl_socket_alloc();
	struct exchange exchange = { .reply = reply, .userdata = userdata };
	struct timeval timeout = { .tv_sec = REPLY_TIMEOUT_S };
	int n;

	if (!sk)
		return -ENOMEM;
	if (nl_connect(sk, NETLINK_ROUTE) < 0)
		return -EIO;
	nl_socket_disable_auto_ack(sk);
	(void)setsockopt(nl_socket_get_fd(sk), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	(void)nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
	(void)nl_socket_modify_err_cb(sk, NL_CB_CUSTOM, on_error, &exchange);
	if (nl_send_auto(sk, request) < 0)
		return -EIO;
	n = nl_recvmsgs_default(sk);
	if (exchange.error < 0)
		return exchange.error;
	return n < 0 ? -EIO : 0;
}

static struct nl_msg *message_new(int type, int flags, const void *header, size_t size)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (!message || nlmsg_append(message, (void *)header, size, NLMSG_ALIGNTO) < 0)
		return NULL;
	return TAKE_PTR(message);
}

static int on_route(struct nlmsghdr *message, void *userdata)
{
	struct nlattr *oif = nlmsg_find_attr(message, sizeof(struct rtmsg), RTA_OIF);

	if (message->nlmsg_type == RTM_NEWROUTE && oif && nla_len(oif) >= 4)
		*(uint32_t *)userdata = nla_get_u32(oif);
	return 0;
}

static int ask_route(struct ip4 destination, struct ip4 source, uint32_t *ret_ifindex)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct rtmsg header = { .rtm_family = AF_INET, .rtm_dst_len = 32 };
	uint32_t ifindex = 0;
	int r;

	message = message_new(RTM_GETROUTE, NLM_F_REQUEST, &header, sizeof(header));
	if (!message || nla_put_u32(message, RTA_DST, destination.be) < 0 ||
		(!ip4_is_none(source) && nla_put_u32(message, RTA_SRC, source.be) < 0))
		return -ENOMEM;
	r = ask(message, on_route, &ifindex);
	if (r == 0 && ifindex == 0)
		r = -ENETUNREACH;
	if (r == 0)
		*ret_ifindex = ifindex;
	return r;
}

static bool is_own(struct ip4 address)
{
	struct ifaddrs *list = NULL;
	bool found = false;

	if (ip4_is_none(address) || getifaddrs(&list) < 0)
		return false;
	for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next)
		found = i->ifa_addr && i->ifa_addr->sa_family == AF_INET &&
			((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr.s_addr ==
				address.be;
	freeifaddrs(list);
	return found;
}

int net_route(struct ip4 destination, struct ip4 source, uint32_t *ret_ifindex)
{
	return ask_route(destination, is_own(source) ? source : (struct ip4){ 0 }, ret_ifindex);
}

static int on_link(struct nlmsghdr *message, void *userdata)
{
	struct nlattr *mtu = nlmsg_find_attr(message, sizeof(struct ifinfomsg), IFLA_MTU);

	if (message->nlmsg_type == RTM_NEWLINK && mtu && nla_len(mtu) >= 4)
		*(uint32_t *)userdata = nla_get_u32(mtu);
	return 0;
}

int net_mtu(int32_t nsid, uint32_t ifindex, uint32_t *ret)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = (int)ifindex };
	uint32_t mtu = 0;
	int r;

	message = message_new(RTM_GETLINK, NLM_F_REQUEST, &header, sizeof(header));
	if (!message || (nsid != NSID_OWN && nla_put_s32(message, IFLA_TARGET_NETNSID, nsid) < 0))
		return -ENOMEM;
	r = ask(message, on_link, &mtu);
	if (r == 0 && mtu == 0)
		r = -ENODATA;
	if (r == 0)
		*ret = mtu;
	return r;
}

struct filter_list {
	struct net_filter *list;
	size_t n;
};

/* A filter is announced with its handle; lines without one only say that there is a priority. */
static int on_filter(struct nlmsghdr *message, void *userdata)
{
	struct filter_list *filters = userdata;
	struct nlattr *kind, *options, *id = NULL;
	struct net_filter *filter;
	struct tcmsg *tc;

	if (message->nlmsg_type != RTM_NEWTFILTER || nlmsg_datalen(message) < (int)sizeof(*tc))
		return 0;
	tc = nlmsg_data(message);
	kind = nlmsg_find_attr(message, sizeof(*tc), TCA_KIND);
	options = nlmsg_find_attr(message, sizeof(*tc), TCA_OPTIONS);
	if (tc->tcm_handle == 0 || !kind)
		return 0;
	filter = ARRAY_APPEND(filters->list, filters->n);
	if (!filter)
		return -ENOMEM;
	filter->priority = TC_H_MAJ(tc->tcm_info) >> 16;
	filter->handle = tc->tcm_handle;
	(void)nla_strlcpy(filter->kind, kind, sizeof(filter->kind));
	if (options && strcmp(filter->kind, "bpf") == 0)
		id = nla_find(nla_data(options), nla_len(options), TCA_BPF_ID);
	if (id && nla_len(id) >= 4)
		filter->program_id = nla_get_u32(id);
	filters->n++;
	return 0;
}

int net_filters(uint32_t ifindex, struct net_filter **ret, size_t *ret_n)
{
	_cleanup_(nlmsg_freep) struct nl_msg *message = NULL;
	struct tcmsg header = { .tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS) };
	struct filter_list filters = { 0 };
	int r;

	message = message_new(RTM_GETTFILTER, NLM_F_REQUEST | NLM_F_DUMP, &header, sizeof(header));
	if (!message)
		return -ENOMEM;
	r = ask(message, on_filter, &filters);
	if (r < 0) {
		free(filters.list);
		return r;
	}
	*ret = filters.list;
	*ret_n = filters.n;
	return 0;
}

int net_tcx_programs(uint32_t ifindex, uint32_t ret[static NET_PROGRAMS_MAX], uint32_t *ret_n)
{
	uint32_t n = NET_PROGRAMS_MAX, flags;

	/* libbpf 1.1 passes the number in the place of a file descriptor; the kernel takes it for TCX. */
	if (bpf_prog_query((int)ifindex, ATTACH_TCX_EGRESS, 0, &flags, ret, &n) < 0)
		return -errno;
	*ret_n = n;
	return 0;
}
