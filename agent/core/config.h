/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The configuration: text in, checked plain data out. Pure: reading the file is the caller's work.
 * The format is schema/config.schema.json.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/ip4.h"
#include "agent/core/snapshot.h"
#include "schema/maps.h"

#define CONFIG_SIZE_MAX (1024 * 1024) /* bytes of text */
#define CONFIG_RULES_MAX 1024
#define CONFIG_INTERFACES_MAX 16
#define CONFIG_ERROR_MAX 256

/* How the game server IP of a tunnel is chosen. */
enum address_policy {
	ADDRESS_AUTO,           /* the device's public addresses; none: the remote */
	ADDRESS_REMOTE,         /* the tunnel's remote */
	ADDRESS_TUNNEL_ADDRESS, /* the device's public addresses */
	ADDRESS_EXPLICIT,       /* the one named in the configuration */
};

/* What holds for one tunnel. */
struct policy {
	enum address_policy address;
	struct ip4 explicit_address; /* with ADDRESS_EXPLICIT */
	enum maps_mode mode;
	uint16_t flags;                        /* enum maps_flag: exemptions, ports, clients */
	struct maps_server_ports server_ports; /* sorted; with MAPS_FLAG_SERVER_PORTS */
};

/* The first rule that matches a tunnel overrides the defaults in what it sets. */
struct config_rule {
	char *netns;  /* glob over the namespace's names; NULL: any */
	char *ifname; /* glob; NULL: any */
	bool has_remote, has_local;
	struct ip4_prefix remote, local;
	bool sets_address, sets_mode, sets_ports, sets_exempt;
	struct policy set;
};

struct config {
	char **interfaces; /* attach to these; none: follow the default route */
	size_t n_interfaces;
	struct policy defaults;
	struct config_rule *rules;
	size_t n_rules;
	struct ip4_prefix *exempt_clients; /* their packets stay on the tunnel */
	size_t n_exempt_clients;
	uint32_t max_entries;       /* size of the maps, rows */
	uint32_t resync_interval_s; /* seconds between periodic passes */
};

/* The configuration of a host that has none. */
void config_init(struct config *ret);
void config_done(struct config *config);

/*
 * Parses `size` bytes of JSON. On failure returns -EINVAL (or -ENOMEM, -E2BIG), leaves *ret alone and
 * writes to `error` what is wrong: position or key, and what was expected.
 */
int config_parse(
	const char *text, size_t size, struct config *ret, char error[static CONFIG_ERROR_MAX]);

/* Whether both ask for the same treatment, apart from the address. */
bool policy_equal(const struct policy *a, const struct policy *b);

/* The policy for a link: the defaults, overridden by the first rule that matches. */
struct policy config_policy(
	const struct config *config, const struct netns *netns, const struct ipip_link *link);

/* Names as the configuration, the status and the CLI spell them. */
const char *address_policy_name(enum address_policy policy);
const char *maps_mode_name(enum maps_mode mode);
int maps_mode_parse(const char *name, enum maps_mode *ret);
/* NULL for flags that are no exemption. */
const char *maps_exemption_name(enum maps_flag flag);
