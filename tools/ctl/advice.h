/* SPDX-License-Identifier: MIT */
#pragma once
/* What a person should know of a word in the status: what it means, and what to do. Pure. */

#include <jansson.h>
#include <stdbool.h>

#include "schema/maps.h"
#include "tools/ctl/finding.h"
#include "tools/ctl/output.h"

struct advice {
	const char *meaning; /* a clause: "the kernel knows no next hop for the client" */
	const char *remedy;  /* NULL: nothing to be done */
	bool wanted;         /* policy asks for it: no fault */
};

/* Why packets stay on the tunnel. */
struct advice advice_kept(enum maps_reason reason);

/* What to do about a tunnel that is skipped or in conflict, by `tunnels[].reason`; NULL: nothing known. */
const char *advice_tunnel(const char *reason);

/* What `tunnels[].game_server_ip_source` says, as a sentence. */
const char *advice_source(const char *source);

/* What `interfaces[].next_hop` says, as a clause. */
const char *advice_next_hop(const char *next_hop);

/* What IPv4 forwarding of the interface means for packets; has_shortcut: an agent runs, and next_hop is `shortcut`. */
void advise_forwarding(
	struct findings *findings, const char *interface, bool is_on, bool has_shortcut);

#define ADVICE_IP_MAX (SHELL_WORD_MAX + 32)

/*
 * The beginning of a command line by which ip(8) works in a namespace of the document: "ip -n NAME" needs a file
 * in /run/netns, and most namespaces of containers have none.
 */
void advice_ip(const json_t *document, const char *label, char ret[static ADVICE_IP_MAX]);
