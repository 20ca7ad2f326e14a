/* SPDX-License-Identifier: MIT */
#pragma once
/* IPv4 addresses and prefixes. Pure: no I/O, no state. */

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An IPv4 address in network byte order; {0} is "none". */
struct ip4 {
	__be32 be;
};

struct ip4_prefix {
	struct ip4 address; /* host bits are 0 */
	uint8_t length;     /* 0..32 */
};

#define IP4_STRING_MAX 16 /* "255.255.255.255" and its NUL */

static inline bool ip4_is_none(struct ip4 a)
{
	return a.be == 0;
}

static inline bool ip4_equal(struct ip4 a, struct ip4 b)
{
	return a.be == b.be;
}

/* Numeric order, as a person would sort addresses: <0, 0, >0. */
int ip4_compare(struct ip4 a, struct ip4 b);

bool ip4_in_prefix(struct ip4 a, const struct ip4_prefix *prefix);

/* Whether it is nobody's on the Internet, but may be a host's: RFC 1918, 100.64/10 (RFC 6598), link-local (RFC 3927). */
bool ip4_is_private(struct ip4 a);

/*
 * Whether an address can be a server's public one: not in RFC 1918, 100.64/10 (RFC 6598), loopback,
 * link-local, multicast, 0/8 or 240/4. Documentation ranges (RFC 5737) count as public.
 */
bool ip4_is_public(struct ip4 a);
/* The prefixes that are not, one after another from 0 on; false: there are no more. */
bool ip4_not_public(size_t i, struct ip4_prefix *ret);

/* Whether anyone may claim it as game server IP at all: not 0/8, loopback, multicast, 240/4. */
bool ip4_is_claimable(struct ip4 a);

/* Parses dotted quad "a.b.c.d" and nothing else. Returns 0 or -EINVAL. */
int ip4_parse(const char *text, struct ip4 *ret);

/* Parses "a.b.c.d/len" or a bare address (/32). -EINVAL also for host bits that are set. */
int ip4_prefix_parse(const char *text, struct ip4_prefix *ret);

/* Writes the dotted quad into `buf` and returns it. */
const char *ip4_format(struct ip4 a, char buf[static IP4_STRING_MAX]);

#define IP4_FORMAT(a) ip4_format((a), (char[IP4_STRING_MAX]){ 0 })
