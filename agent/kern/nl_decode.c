/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <net/if.h> /* before linux/if.h, which then leaves out what both define */
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <string.h>

#include "agent/kern/nl_decode.h"

static struct ip4 get_ip4(struct nlattr *attribute)
{
	struct ip4 address = { 0 };

	if (attribute)
		address.be = nla_get_u32(attribute);
	return address;
}

static int parse(struct nlmsghdr *message, int type, int header, struct nlattr **tb, int max,
	const struct nla_policy *policy)
{
	if (message->nlmsg_type != type)
		return -ENOENT;
	return nlmsg_parse(message, header, tb, max, policy) < 0 ? -EBADMSG : 0;
}

static const struct nla_policy link_policy[IFLA_MAX + 1] = {
	[IFLA_IFNAME] = { .type = NLA_STRING, .minlen = 1, .maxlen = IFNAMSIZ },
	[IFLA_LINKINFO] = { .type = NLA_NESTED },
};

static int parse_link(struct nlmsghdr *message, struct nlattr **tb)
{
	int r;

	r = parse(message, RTM_NEWLINK, sizeof(struct ifinfomsg), tb, IFLA_MAX, link_policy);
	if (r < 0)
		return r;
	return tb[IFLA_IFNAME] ? 0 : -EBADMSG;
}

static int decode_tunnel_data(struct nlattr *data, struct ipip_link *link)
{
	static const struct nla_policy policy[IFLA_IPTUN_MAX + 1] = {
		[IFLA_IPTUN_LOCAL] = { .type = NLA_U32 },
		[IFLA_IPTUN_REMOTE] = { .type = NLA_U32 },
		[IFLA_IPTUN_PROTO] = { .type = NLA_U8 },
		[IFLA_IPTUN_ENCAP_TYPE] = { .type = NLA_U16 },
	};
	struct nlattr *tb[IFLA_IPTUN_MAX + 1];

	if (nla_parse_nested(tb, IFLA_IPTUN_MAX, data, policy) < 0)
		return -EBADMSG;
	link->local = get_ip4(tb[IFLA_IPTUN_LOCAL]);
	link->remote = get_ip4(tb[IFLA_IPTUN_REMOTE]);
	link->external = tb[IFLA_IPTUN_COLLECT_METADATA];
	if (tb[IFLA_IPTUN_ENCAP_TYPE])
		link->encap_type = nla_get_u16(tb[IFLA_IPTUN_ENCAP_TYPE]);
	if (tb[IFLA_IPTUN_PROTO])
		link->proto = nla_get_u8(tb[IFLA_IPTUN_PROTO]);
	return 0;
}

int nl_decode_ipip(struct nlmsghdr *message, struct ipip_link *ret)
{
	static const struct nla_policy policy[IFLA_INFO_MAX + 1] = {
		[IFLA_INFO_KIND] = { .type = NLA_STRING },
		[IFLA_INFO_DATA] = { .type = NLA_NESTED },
	};
	struct nlattr *tb[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	const struct ifinfomsg *header;
	struct ipip_link link = { 0 };
	int r;

	r = parse_link(message, tb);
	if (r < 0)
		return r;
	if (!tb[IFLA_LINKINFO])
		return -ENOENT;
	if (nla_parse_nested(info, IFLA_INFO_MAX, tb[IFLA_LINKINFO], policy) < 0)
		return -EBADMSG;
	if (!info[IFLA_INFO_KIND] || nla_strcmp(info[IFLA_INFO_KIND], "ipip") != 0)
		return -ENOENT;
	if (!info[IFLA_INFO_DATA])
		return -EBADMSG;
	r = decode_tunnel_data(info[IFLA_INFO_DATA], &link);
	if (r < 0)
		return r;
	header = nlmsg_data(message);
	link.ifindex = (uint32_t)header->ifi_index;
	link.up = header->ifi_flags & IFF_UP;
	(void)nla_strlcpy(link.name, tb[IFLA_IFNAME], sizeof(link.name));
	*ret = link;
	return 0;
}

bool nl_is_veth(struct nlmsghdr *message)
{
	static const struct nla_policy policy[IFLA_INFO_MAX + 1] = {
		[IFLA_INFO_KIND] = { .type = NLA_STRING },
	};
	struct nlattr *tb[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];

	return nlmsg_parse(message, sizeof(struct ifinfomsg), tb, IFLA_MAX, link_policy) == 0 &&
	       tb[IFLA_LINKINFO] &&
	       nla_parse_nested(info, IFLA_INFO_MAX, tb[IFLA_LINKINFO], policy) == 0 &&
	       info[IFLA_INFO_KIND] && nla_strcmp(info[IFLA_INFO_KIND], "veth") == 0;
}

int nl_decode_interface(struct nlmsghdr *message, struct host_interface *ret)
{
	struct nlattr *tb[IFLA_MAX + 1];
	const struct ifinfomsg *header;
	int r;

	r = parse_link(message, tb);
	if (r < 0)
		return r;
	header = nlmsg_data(message);
	*ret = (struct host_interface){
		.ifindex = (uint32_t)header->ifi_index,
		.arphrd = header->ifi_type,
		.up = header->ifi_flags & IFF_UP,
	};
	(void)nla_strlcpy(ret->name, tb[IFLA_IFNAME], sizeof(ret->name));
	return 0;
}

int nl_decode_address(struct nlmsghdr *message, struct netns_address *ret)
{
	static const struct nla_policy policy[IFA_MAX + 1] = {
		[IFA_LOCAL] = { .type = NLA_U32 },
	};
	struct nlattr *tb[IFA_MAX + 1];
	const struct ifaddrmsg *header;
	int r;

	r = parse(message, RTM_NEWADDR, sizeof(*header), tb, IFA_MAX, policy);
	if (r < 0)
		return r;
	header = nlmsg_data(message);
	if (header->ifa_family != AF_INET)
		return -ENOENT;
	if (!tb[IFA_LOCAL])
		return -EBADMSG;
	*ret = (struct netns_address){
		.ifindex = header->ifa_index,
		.address = get_ip4(tb[IFA_LOCAL]),
		.prefix_length = header->ifa_prefixlen,
	};
	return 0;
}

int nl_decode_nsid(struct nlmsghdr *message, int32_t *ret_nsid)
{
	static const struct nla_policy policy[NETNSA_MAX + 1] = {
		[NETNSA_NSID] = { .type = NLA_U32 },
	};
	struct nlattr *tb[NETNSA_MAX + 1];
	int r;

	r = parse(message, message->nlmsg_type == RTM_DELNSID ? RTM_DELNSID : RTM_NEWNSID,
		sizeof(struct rtgenmsg), tb, NETNSA_MAX, policy);
	if (r < 0)
		return r;
	if (!tb[NETNSA_NSID])
		return -EBADMSG;
	*ret_nsid = (int32_t)nla_get_u32(tb[NETNSA_NSID]);
	return 0;
}

int nl_decode_neighbour(struct nlmsghdr *message, struct neighbour *ret)
{
	const struct ndmsg *header = nlmsg_data(message);
	struct nlattr *mac;

	if (message->nlmsg_type != RTM_NEWNEIGH)
		return -ENOENT;
	if (nlmsg_datalen(message) < (int)sizeof(*header))
		return -EBADMSG;
	if (header->ndm_family != AF_INET)
		return -ENOENT;
	*ret = (struct neighbour){ .nud = header->ndm_state };
	mac = nlmsg_find_attr(message, sizeof(*header), NDA_LLADDR);
	if (mac && nla_len(mac) == ETH_ALEN)
		memcpy(ret->mac, nla_data(mac), ETH_ALEN);
	return 0;
}

int nl_decode_done(struct nlmsghdr *message, int *ret_error)
{
	int error = 0;

	if (message->nlmsg_type != NLMSG_DONE)
		return -ENOENT;
	if (nlmsg_datalen(message) >= (int)sizeof(error))
		memcpy(&error, nlmsg_data(message), sizeof(error));
	*ret_error = error;
	return 0;
}

static void add_hop(struct route *route, uint32_t ifindex, struct nlattr *gateway)
{
	size_t i = route->n_ifindexes++;

	route->ifindexes[i] = ifindex;
	if (gateway && nla_len(gateway) >= (int)sizeof(uint32_t))
		route->gateways[i] = get_ip4(gateway);
}

static int decode_multipath(struct nlattr *multipath, struct route *route)
{
	const struct rtnexthop *hop = nla_data(multipath);
	int left = nla_len(multipath);

	while (left >= (int)sizeof(*hop)) {
		int step = RTNH_ALIGN(hop->rtnh_len);

		if (hop->rtnh_len < sizeof(*hop) || hop->rtnh_len > left)
			return -EBADMSG;
		if (route->n_ifindexes < ROUTE_HOPS_MAX)
			add_hop(route, (uint32_t)hop->rtnh_ifindex,
				nla_find((struct nlattr *)RTNH_DATA(hop),
					hop->rtnh_len - (int)sizeof(*hop), RTA_GATEWAY));
		hop = (const struct rtnexthop *)((const char *)hop + step);
		left -= step;
	}
	return 0;
}

int nl_decode_route(struct nlmsghdr *message, struct route *ret)
{
	static const struct nla_policy policy[RTA_MAX + 1] = {
		[RTA_DST] = { .type = NLA_U32 },
		[RTA_TABLE] = { .type = NLA_U32 },
		[RTA_OIF] = { .type = NLA_U32 },
		[RTA_GATEWAY] = { .type = NLA_U32 },
		[RTA_PRIORITY] = { .type = NLA_U32 },
	};
	struct nlattr *tb[RTA_MAX + 1];
	const struct rtmsg *header;
	struct route route;
	int r;

	r = parse(message, RTM_NEWROUTE, sizeof(*header), tb, RTA_MAX, policy);
	if (r < 0)
		return r;
	header = nlmsg_data(message);
	if (header->rtm_family != AF_INET || header->rtm_flags & RTM_F_CLONED)
		return -ENOENT;
	if (header->rtm_dst_len > 32)
		return -EBADMSG;
	route = (struct route){
		.destination = { get_ip4(tb[RTA_DST]), header->rtm_dst_len },
		.table = tb[RTA_TABLE] ? nla_get_u32(tb[RTA_TABLE]) : header->rtm_table,
		.type = header->rtm_type,
		.tos = header->rtm_tos,
		.metric = tb[RTA_PRIORITY] ? nla_get_u32(tb[RTA_PRIORITY]) : 0,
	};
	if (tb[RTA_OIF])
		add_hop(&route, nla_get_u32(tb[RTA_OIF]), tb[RTA_GATEWAY]);
	else if (tb[RTA_MULTIPATH])
		r = decode_multipath(tb[RTA_MULTIPATH], &route);
	if (r < 0)
		return r;
	*ret = route;
	return 0;
}

/* The kernel's own three say no more than which table to look at. */
static bool is_plain_rule(const struct fib_rule_hdr *header, struct nlattr **tb, uint32_t table)
{
	static const int selectors[] = { FRA_IIFNAME, FRA_OIFNAME, FRA_FWMARK, FRA_FWMASK,
		FRA_TUN_ID, FRA_L3MDEV, FRA_UID_RANGE, FRA_IP_PROTO, FRA_SPORT_RANGE,
		FRA_DPORT_RANGE };

	for (size_t i = 0; i < sizeof(selectors) / sizeof(selectors[0]); i++)
		if (tb[selectors[i]])
			return false;
	if (tb[FRA_SUPPRESS_PREFIXLEN] && nla_get_u32(tb[FRA_SUPPRESS_PREFIXLEN]) != UINT32_MAX)
		return false;
	if (tb[FRA_SUPPRESS_IFGROUP] && nla_get_u32(tb[FRA_SUPPRESS_IFGROUP]) != UINT32_MAX)
		return false;
	return header->action == FR_ACT_TO_TBL && header->src_len == 0 && header->dst_len == 0 &&
	       header->tos == 0 && !(header->flags & FIB_RULE_INVERT) &&
	       (table == RT_TABLE_LOCAL || table == RT_TABLE_MAIN || table == RT_TABLE_DEFAULT);
}

int nl_decode_rule(struct nlmsghdr *message, bool *ret_plain)
{
	static const struct nla_policy policy[FRA_MAX + 1] = {
		[FRA_TABLE] = { .type = NLA_U32 },
		[FRA_SUPPRESS_PREFIXLEN] = { .type = NLA_U32 },
		[FRA_SUPPRESS_IFGROUP] = { .type = NLA_U32 },
	};
	struct nlattr *tb[FRA_MAX + 1];
	const struct fib_rule_hdr *header;
	int r;

	r = parse(message, RTM_NEWRULE, sizeof(*header), tb, FRA_MAX, policy);
	if (r < 0)
		return r;
	header = nlmsg_data(message);
	if (header->family != AF_INET)
		return -ENOENT;
	*ret_plain = is_plain_rule(
		header, tb, tb[FRA_TABLE] ? nla_get_u32(tb[FRA_TABLE]) : header->table);
	return 0;
}
