/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <net/if.h> /* before linux/if.h, which then leaves out what both define */
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
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

	r = parse(message, RTM_NEWNSID, sizeof(struct rtgenmsg), tb, NETNSA_MAX, policy);
	if (r < 0)
		return r;
	if (!tb[NETNSA_NSID])
		return -EBADMSG;
	*ret_nsid = (int32_t)nla_get_u32(tb[NETNSA_NSID]);
	return 0;
}

static int decode_multipath(struct nlattr *multipath, struct default_route *route)
{
	const struct rtnexthop *hop = nla_data(multipath);
	int left = nla_len(multipath);

	while (left >= (int)sizeof(*hop)) {
		int step = RTNH_ALIGN(hop->rtnh_len);

		if (hop->rtnh_len < sizeof(*hop) || hop->rtnh_len > left)
			return -EBADMSG;
		if (route->n_ifindexes < sizeof(route->ifindexes) / sizeof(route->ifindexes[0]))
			route->ifindexes[route->n_ifindexes++] = (uint32_t)hop->rtnh_ifindex;
		hop = (const struct rtnexthop *)((const char *)hop + step);
		left -= step;
	}
	return 0;
}

int nl_decode_default_route(struct nlmsghdr *message, struct default_route *ret)
{
	static const struct nla_policy policy[RTA_MAX + 1] = {
		[RTA_TABLE] = { .type = NLA_U32 },
		[RTA_OIF] = { .type = NLA_U32 },
		[RTA_PRIORITY] = { .type = NLA_U32 },
	};
	struct nlattr *tb[RTA_MAX + 1];
	struct default_route route = { 0 };
	const struct rtmsg *header;
	uint32_t table;
	int r;

	r = parse(message, RTM_NEWROUTE, sizeof(*header), tb, RTA_MAX, policy);
	if (r < 0)
		return r;
	header = nlmsg_data(message);
	table = tb[RTA_TABLE] ? nla_get_u32(tb[RTA_TABLE]) : header->rtm_table;
	if (header->rtm_family != AF_INET || header->rtm_type != RTN_UNICAST ||
		header->rtm_dst_len != 0 || table != RT_TABLE_MAIN)
		return -ENOENT;
	if (tb[RTA_PRIORITY])
		route.metric = nla_get_u32(tb[RTA_PRIORITY]);
	if (tb[RTA_OIF])
		route.ifindexes[route.n_ifindexes++] = nla_get_u32(tb[RTA_OIF]);
	else if (tb[RTA_MULTIPATH])
		r = decode_multipath(tb[RTA_MULTIPATH], &route);
	if (r < 0)
		return r;
	*ret = route;
	return 0;
}
