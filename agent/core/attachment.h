/* SPDX-License-Identifier: MIT */
#pragma once
/* One interface and how the program hangs on it. Plain data. */

#include <net/if.h>
#include <stdint.h>

/* Said of a host on which there is none. */
#define NO_INTERFACE                                                                               \
	"no interface to attach to: the main routing table has no default route, and "             \
	"'interfaces' names none"

enum attachment_kind {
	ATTACHMENT_NONE,
	ATTACHMENT_TCX,
	ATTACHMENT_CLSACT,
};

struct attachment {
	uint32_t ifindex;
	char ifname[IFNAMSIZ];
	uint16_t arphrd; /* ARPHRD_*, net/if_arp.h; true where something is attached */
	enum attachment_kind kind;
	uint32_t program_id;
	int error; /* 0, or the -errno with which attaching failed */
};

static inline const char *attachment_kind_name(enum attachment_kind kind)
{
	switch (kind) {
	case ATTACHMENT_NONE:
		return "none";
	case ATTACHMENT_TCX:
		return "tcx";
	case ATTACHMENT_CLSACT:
		return "clsact";
	}
	return "?";
}
