/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The host's own IPv4 routes, as far as they matter to direct packets. Plain data, filled by kern/, and
 * what follows from it. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/ip4.h"
#include "schema/maps.h"

#define ROUTE_HOPS_MAX 8 /* further ones are ignored */
#define ROUTES_MAX 16384 /* default routes are kept beyond that, others only counted */

struct route {
	struct ip4_prefix destination;
	uint32_t table; /* RT_TABLE_*, linux/rtnetlink.h */
	uint8_t type;   /* RTN_* */
	uint8_t tos;
	uint32_t metric;
	uint32_t ifindexes[ROUTE_HOPS_MAX];  /* of its next hops */
	struct ip4 gateways[ROUTE_HOPS_MAX]; /* likewise; none: on-link, or not an IPv4 one */
	size_t n_ifindexes;
};

struct routes {
	struct route *list; /* in the kernel's order */
	size_t n;
	bool more;        /* there are more than ROUTES_MAX; some are not in the list */
	bool rules_plain; /* no routing rules but the three that every host has */
};

#define ROUTES_PAUSE_MIN_USEC                                                                      \
	(10 * 1000) /* in which bells that belong together are gathered anyway */

/*
 * How long to leave the routes alone after reading them took `took` of processor time, both in microseconds: reading all
 * of them anew for each change shall not take more than a tenth of a processor.
 */
uint64_t routes_pause(uint64_t took);

/* Takes a route over. 0 or -ENOMEM. */
int routes_add(struct routes *routes, const struct route *route);
void routes_done(struct routes *routes);

/*
 * The interfaces of the default routes of the main table, best metric first, each once. The caller
 * frees *ret. 0 or -ENOMEM.
 */
int routes_default_interfaces(const struct routes *routes, uint32_t **ret, size_t *ret_n);

/* The default route that the kernel prefers for what leaves by an interface, or NULL. */
const struct route *routes_best_default(const struct routes *routes, uint32_t ifindex);

/* Why packets out of an interface need the FIB, each of them. */
enum uplink_state {
	UPLINK_SHORTCUT, /* they do not: most next hops are known without */
	UPLINK_RULES,    /* routing rules: the destination alone does not decide */
	UPLINK_TOS,      /* a default route for a certain TOS, likewise */
	UPLINK_MANY,     /* too many routes to tell them apart */
	UPLINK_NO_PLACE, /* another interface has this one's place in `uplinks` */
	UPLINK_NO_GATEWAY, /* the default route has no IPv4 gateway whose MAC address they could share */
	UPLINK_UNREAD, /* they changed, and could not be read yet */
};

/*
 * What the BPF program may know of an interface; generation and gateway are left 0, and ifindex too
 * where it must ask the FIB for each packet.
 */
enum uplink_state uplink_make(
	const struct routes *routes, uint32_t ifindex, struct maps_uplink *ret);

/*
 * Marks the clients that a route leads to, as far as they share a bit with it: they ask the FIB. The program may read it
 * meanwhile.
 */
void uplink_mark(struct maps_uplink *uplink, const struct ip4_prefix *destination);

/* In maps_uplink.ifindex, which is nobody's then: what it says holds, but must not be believed just now. */
#define UPLINK_SUSPENDED (UINT32_C(1) << 31)

/*
 * Writes what the program shall know; generation and gateway are its own affair. While that changes the place is nobody's, and
 * packets ask the FIB. `suspended`: as they do afterwards, until UPLINK_SUSPENDED is taken off.
 */
void uplink_store(struct maps_uplink *place, const struct maps_uplink *wanted, bool suspended);

/* Whether both say the same, apart from generation, gateway and UPLINK_SUSPENDED. */
bool uplink_equal(const struct maps_uplink *a, const struct maps_uplink *b);

/* "shortcut", "routing-rules", … as the status spells them. */
const char *uplink_state_name(enum uplink_state state);
