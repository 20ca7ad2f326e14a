/* SPDX-License-Identifier: MIT */
#include "agent/core/reason.h"

static const char *const names[MAPS_REASON_COUNT] = {
	[MAPS_KEPT_NO_ENTRY] = "no-entry",
	[MAPS_KEPT_NO_SOURCE] = "no-source",
	[MAPS_KEPT_SHADOW] = "shadow",
	[MAPS_KEPT_MODE_TUNNEL] = "mode-tunnel",
	[MAPS_KEPT_OUTER_OPTIONS] = "outer-options",
	[MAPS_KEPT_OUTER_FRAGMENT] = "outer-fragment",
	[MAPS_KEPT_OUTER_LENGTH] = "outer-length",
	[MAPS_KEPT_INNER_VERSION] = "inner-version",
	[MAPS_KEPT_INNER_SHORT] = "inner-short",
	[MAPS_KEPT_INNER_LENGTH] = "inner-length",
	[MAPS_KEPT_ICMP_ERROR] = "icmp-error",
	[MAPS_KEPT_NO_NEXT_HOP] = "no-next-hop",
	[MAPS_KEPT_PULL_FAILED] = "pull-failed",
	[MAPS_KEPT_STRIP_FAILED] = "strip-failed",
	[MAPS_DROP_WRITE_FAILED] = "write-failed",
	[MAPS_KEPT_SERVER_PORT] = "server-port",
	[MAPS_KEPT_EXEMPT_QUERY] = "exempt-query",
	[MAPS_KEPT_EXEMPT_CLIENT] = "exempt-client",
	[MAPS_KEPT_NO_PROGRAM] = "no-program",
};

const char *maps_reason_name(enum maps_reason reason)
{
	if (reason < MAPS_REASON_COUNT && names[reason])
		return names[reason];
	return "reserved";
}
