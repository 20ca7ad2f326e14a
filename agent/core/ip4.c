/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/ip4.h"
#include "agent/util/array.h"

struct range {
	uint32_t first; /* host byte order */
	uint8_t length;
};

/* Nobody's public address, but a host may well use them. */
static const struct range private_ranges[] = {
	{ 0x0a000000, 8 },  /* 10/8, RFC 1918 */
	{ 0xac100000, 12 }, /* 172.16/12, RFC 1918 */
	{ 0xc0a80000, 16 }, /* 192.168/16, RFC 1918 */
	{ 0x64400000, 10 }, /* 100.64/10, RFC 6598 */
	{ 0xa9fe0000, 16 }, /* 169.254/16, RFC 3927 */
};

/* Never valid as a source on the wire towards a client. */
static const struct range forbidden_ranges[] = {
	{ 0x00000000, 8 }, /* 0/8, RFC 1122 */
	{ 0x7f000000, 8 }, /* 127/8, RFC 1122 */
	{ 0xe0000000, 4 }, /* 224/4, RFC 5771 */
	{ 0xf0000000, 4 }, /* 240/4 and broadcast, RFC 1112 */
};

static uint32_t mask_of(uint8_t length)
{
	return length == 0 ? 0 : UINT32_MAX << (32 - length);
}

static bool in_ranges(struct ip4 a, const struct range *ranges, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((ntohl(a.be) & mask_of(ranges[i].length)) == ranges[i].first)
			return true;
	return false;
}

int ip4_compare(struct ip4 a, struct ip4 b)
{
	uint32_t ha = ntohl(a.be), hb = ntohl(b.be);

	return ha < hb ? -1 : ha > hb;
}

bool ip4_in_prefix(struct ip4 a, const struct ip4_prefix *prefix)
{
	return (ntohl(a.be) & mask_of(prefix->length)) == ntohl(prefix->address.be);
}

bool ip4_is_claimable(struct ip4 a)
{
	return !in_ranges(a, forbidden_ranges, ELEMENTS_OF(forbidden_ranges));
}

bool ip4_is_private(struct ip4 a)
{
	return in_ranges(a, private_ranges, ELEMENTS_OF(private_ranges));
}

bool ip4_is_public(struct ip4 a)
{
	return ip4_is_claimable(a) && !ip4_is_private(a);
}

bool ip4_not_public(size_t i, struct ip4_prefix *ret)
{
	const size_t n = ELEMENTS_OF(private_ranges);
	const struct range *range;

	if (i >= n + ELEMENTS_OF(forbidden_ranges))
		return false;
	range = i < n ? &private_ranges[i] : &forbidden_ranges[i - n];
	*ret = (struct ip4_prefix){ { htonl(range->first) }, range->length };
	return true;
}

int ip4_parse(const char *text, struct ip4 *ret)
{
	struct in_addr in;

	if (inet_pton(AF_INET, text, &in) != 1)
		return -EINVAL;
	ret->be = in.s_addr;
	return 0;
}

int ip4_prefix_parse(const char *text, struct ip4_prefix *ret)
{
	const char *slash = strchr(text, '/');
	char address[IP4_STRING_MAX];
	struct ip4_prefix prefix = { .length = 32 };
	size_t n = slash ? (size_t)(slash - text) : strlen(text);

	if (n >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, n);
	address[n] = '\0';
	if (ip4_parse(address, &prefix.address) < 0)
		return -EINVAL;
	if (slash) {
		char *end;
		unsigned long length;

		/* strtoul() would take a sign and blanks. */
		if (slash[1] < '0' || slash[1] > '9')
			return -EINVAL;
		length = strtoul(slash + 1, &end, 10);
		if (*end != '\0' || length > 32)
			return -EINVAL;
		prefix.length = (uint8_t)length;
	}
	if (ntohl(prefix.address.be) & ~mask_of(prefix.length))
		return -EINVAL;
	*ret = prefix;
	return 0;
}

const char *ip4_format(struct ip4 a, char buf[static IP4_STRING_MAX])
{
	struct in_addr in = { .s_addr = a.be };

	(void)inet_ntop(AF_INET, &in, buf, IP4_STRING_MAX); /* fits by its size */
	return buf;
}
