/* SPDX-License-Identifier: MIT */
/*
 * One netlink message for each decoder. The first byte chooses it, the rest is what stands behind the
 * message's header; a refused message leaves what the caller has alone.
 */

#include <errno.h>
#include <linux/rtnetlink.h>

#include "agent/kern/nl_decode.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

#define UNTOUCHED 0x5a

/* Decodes into memory that is marked, and sees that a failure leaves the mark. */
#define DECODE(decode, message, result)                                                            \
	({                                                                                         \
		typeof(result) *_p = &(result), _mark;                                             \
		int _r;                                                                            \
		memset(&_mark, UNTOUCHED, sizeof(_mark));                                          \
		memset(_p, UNTOUCHED, sizeof(*_p));                                                \
		_r = decode(message, _p);                                                          \
		CHECK(_r == 0 || _r == -ENOENT || _r == -EBADMSG);                                 \
		CHECK(_r == 0 || memcmp(_p, &_mark, sizeof(_mark)) == 0);                          \
		_r;                                                                                \
	})

static void decode_link(struct nlmsghdr *message)
{
	struct ipip_link link;
	struct host_interface interface;
	int ipip = DECODE(nl_decode_ipip, message, link);
	int any = DECODE(nl_decode_interface, message, interface);

	if (ipip == 0) {
		CHECK(any == 0); /* it is an interface, too */
		CHECK(memchr(link.name, '\0', sizeof(link.name)));
		CHECK(strcmp(link.name, interface.name) == 0);
		CHECK(link.ifindex == interface.ifindex && link.up == interface.up);
		CHECK(!nl_is_veth(message));
	}
	if (any == 0)
		CHECK(memchr(interface.name, '\0', sizeof(interface.name)));
}

static void decode_route(struct nlmsghdr *message)
{
	_cleanup_(routes_done) struct routes routes = { .rules_plain = true };
	struct maps_uplink uplink;
	struct route route;

	if (DECODE(nl_decode_route, message, route) < 0)
		return;
	CHECK(route.destination.length <= 32);
	CHECK(route.n_ifindexes <= ROUTE_HOPS_MAX);
	CHECK(routes_add(&routes, &route) == 0);
	(void)uplink_make(&routes, route.ifindexes[0], &uplink);
}

static void decode_others(struct nlmsghdr *message)
{
	struct netns_address address;
	struct neighbour neighbour;
	int32_t nsid;
	bool plain;
	int error;

	(void)DECODE(nl_decode_address, message, address);
	(void)DECODE(nl_decode_nsid, message, nsid);
	(void)DECODE(nl_decode_rule, message, plain);
	(void)DECODE(nl_decode_neighbour, message, neighbour);
	if (DECODE(nl_decode_done, message, error) == 0)
		CHECK(message->nlmsg_len >= NLMSG_LENGTH(sizeof(error)) || error == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t types[] = { RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_NEWNSID,
		RTM_DELNSID, RTM_NEWROUTE, RTM_NEWRULE, RTM_NEWNEIGH, NLMSG_DONE };
	struct input input = { data, size };
	uint8_t choice = take_byte(&input);
	_cleanup_free_ char *buffer = malloc(NLMSG_HDRLEN + input.size);
	struct nlmsghdr *message = (struct nlmsghdr *)buffer;

	CHECK(buffer);
	memset(buffer, 0, NLMSG_HDRLEN);
	message->nlmsg_len = (uint32_t)(NLMSG_HDRLEN + input.size);
	message->nlmsg_type = types[choice % (sizeof(types) / sizeof(types[0]))];
	if (input.size > 0)
		memcpy(buffer + NLMSG_HDRLEN, input.data, input.size);
	decode_link(message);
	decode_route(message);
	decode_others(message);
	return 0;
}
