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
#include "agent/core/offload.h"
#include "agent/core/snapshot.h"
#include "schema/maps.h"

#define CONFIG_SIZE_MAX (1024 * 1024) /* bytes of text */
#define CONFIG_RULES_MAX 1024
#define CONFIG_INTERFACES_MAX 16
#define CONFIG_PREFIXES_MAX 4096 /* of allowed_game_server_ips */
#define CONFIG_ERROR_MAX 512     /* of an error on one line */

/* `limits`, when the configuration does not say; their hard maxima are in snapshot.h. */
#define CONFIG_NETNS_DEFAULT 16384
#define CONFIG_TUNNELS_DEFAULT 256
#define CONFIG_ADDRESSES_DEFAULT 1024

#define CONFIG_RESYNC_INTERVAL_DEFAULT_S 30
#define CONFIG_RESYNC_INTERVAL_MAX_S 86400

#define CONFIG_NO_RULE SIZE_MAX

/* How the game server IP of a tunnel is chosen. */
enum address_policy {
	ADDRESS_AUTO,           /* the device's public addresses; none: the remote */
	ADDRESS_REMOTE,         /* the tunnel's remote */
	ADDRESS_TUNNEL_ADDRESS, /* the device's public addresses */
	ADDRESS_EXPLICIT,       /* the one named in the configuration */
};

/* Who said so. */
enum mode_source {
	MODE_SOURCE_DEFAULT,  /* the configuration's top level, or nobody */
	MODE_SOURCE_RULE,     /* one of its rules */
	MODE_SOURCE_OVERRIDE, /* an operator, at run time: override.h */
};

/* What holds for one tunnel. */
struct policy {
	enum address_policy address;
	struct ip4 explicit_address; /* with ADDRESS_EXPLICIT */
	enum maps_mode mode;
	enum mode_source mode_source;
	uint16_t flags;                        /* enum maps_flag: exemptions, ports, clients */
	struct maps_server_ports server_ports; /* sorted; with MAPS_FLAG_SERVER_PORTS */
	size_t rule; /* the rule that overrode the defaults; CONFIG_NO_RULE: none */
};

enum config_sets {
	SETS_ADDRESS = 1 << 0,
	SETS_MODE = 1 << 1,
	SETS_PORTS = 1 << 2,
	SETS_EXEMPT = 1 << 3,
	SETS_TRUST = 1 << 4,
};

struct config_match {
	char *netns;  /* glob over the names of the namespace; NULL: any */
	char *label;  /* glob over its label; NULL: any */
	char *ifname; /* glob; NULL: any */
	bool has_remote, has_local;
	struct ip4_prefix remote, local;
};

struct config_set {
	unsigned int sets;    /* enum config_sets: what of the rest counts */
	struct policy policy; /* but for .rule */
	bool trust;
};

/*
 * The first rule that matches a tunnel overrides the defaults in what it sets. Trust is apart: there
 * the first rule decides that matches and sets it, so that whoever owns a namespace cannot get out of
 * it by a tunnel that an earlier rule matches.
 */
struct config_rule {
	struct config_match match;
	struct config_set set;
};

struct config_limits {
	uint32_t namespaces;              /* of those that are trusted */
	uint32_t tunnels_per_namespace;   /* a namespace with more contributes nothing */
	uint32_t addresses_per_namespace; /* likewise */
};

struct config {
	char **interfaces; /* attach to these; none: follow the default route */
	size_t n_interfaces;
	struct policy defaults;
	struct config_rule *rules;
	size_t n_rules;
	struct ip4_prefix *exempt_clients; /* their packets stay on the tunnel */
	size_t n_exempt_clients;
	struct ip4_prefix *allowed_ips; /* nobody may claim another address; none: all may */
	size_t n_allowed_ips;
	struct config_limits limits;
	enum offload_policy offload_guard;
	uint32_t max_entries;       /* size of the maps, rows */
	uint32_t resync_interval_s; /* seconds between periodic passes */
};

/* The configuration of a host that has none. */
void config_init(struct config *ret);
void config_done(struct config *config);

/*
 * The first rule before it that matches all that this one does, so that this one never decides, trust apart;
 * CONFIG_NO_RULE: none that could be told without the tunnels.
 */
size_t config_hidden_by(const struct config *config, size_t rule);

/* What is wrong with a configuration, and where. */
struct config_error {
	unsigned int line, column; /* from 1, column in characters; 0: nowhere in it */
	char place[96];            /* "rules[2].match.remote"; "": the whole */
	char message[352];         /* what is wrong, and what was expected */
};

/* "line 3, column 5: rules[2].match.remote: expected …", as far as it is known. Returns `buf`. */
const char *config_error_format(
	const struct config_error *error, char buf[static CONFIG_ERROR_MAX]);

/*
 * Parses `size` bytes of JSON. On failure returns -EINVAL (or -ENOMEM, -E2BIG), leaves *ret alone and
 * fills *error.
 */
int config_parse(const char *text, size_t size, struct config *ret, struct config_error *error);

/* Whether both ask for the same treatment, apart from the address. */
bool policy_equal(const struct policy *a, const struct policy *b);

/* The policy for a link: the defaults, overridden by the first rule that matches. */
struct policy config_policy(
	const struct config *config, const struct netns *netns, const struct ipip_link *link);

/*
 * Whether what this namespace says about its tunnels and addresses may count: it is the host's, unless
 * a rule says otherwise. `link`: NULL asks for the namespace as a whole.
 */
bool config_trusts(
	const struct config *config, const struct netns *netns, const struct ipip_link *link);

/* Whether any link of the namespace might be trusted, whatever it turns out to be. */
bool config_may_trust(const struct config *config, const struct netns *netns);

/* Whether anyone may claim the address: allowed_game_server_ips. */
bool config_allows(const struct config *config, struct ip4 game_server_ip);

/* Names as the configuration, the status and the CLI spell them. */
const char *address_policy_name(enum address_policy policy);
const char *mode_source_name(enum mode_source source);
const char *maps_mode_name(enum maps_mode mode);
int maps_mode_parse(const char *name, enum maps_mode *ret);
/* NULL for flags that are no exemption. */
const char *maps_exemption_name(enum maps_flag flag);
