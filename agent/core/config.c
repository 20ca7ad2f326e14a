/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/config.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

#define RESYNC_INTERVAL_DEFAULT_S 30
#define RESYNC_INTERVAL_MAX_S 86400
#define MAX_ENTRIES_MIN 16
#define MAX_ENTRIES_MAX 1048576

static const char *const mode_names[MAPS_MODE_COUNT] = {
	[MAPS_MODE_DIRECT] = "direct",
	[MAPS_MODE_SHADOW] = "shadow",
	[MAPS_MODE_TUNNEL] = "tunnel",
};

const char *maps_mode_name(enum maps_mode mode)
{
	return mode < MAPS_MODE_COUNT ? mode_names[mode] : "?";
}

int maps_mode_parse(const char *name, enum maps_mode *ret)
{
	for (size_t i = 0; i < MAPS_MODE_COUNT; i++) {
		if (strcmp(name, mode_names[i]) == 0) {
			*ret = (enum maps_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

static const struct {
	const char *name;
	enum maps_flag flag;
} exemptions[] = {
	{ "a2s-info", MAPS_FLAG_EXEMPT_A2S_INFO },
	{ "a2s-challenge", MAPS_FLAG_EXEMPT_A2S_CHALLENGE },
	{ "a2s-players", MAPS_FLAG_EXEMPT_A2S_PLAYERS },
	{ "a2s-rules", MAPS_FLAG_EXEMPT_A2S_RULES },
};

const char *maps_exemption_name(enum maps_flag flag)
{
	for (size_t i = 0; i < ELEMENTS_OF(exemptions); i++)
		if (exemptions[i].flag == flag)
			return exemptions[i].name;
	return NULL;
}

const char *address_policy_name(enum address_policy policy)
{
	switch (policy) {
	case ADDRESS_AUTO:
		return "auto";
	case ADDRESS_REMOTE:
		return "remote";
	case ADDRESS_TUNNEL_ADDRESS:
		return "tunnel-address";
	case ADDRESS_EXPLICIT:
		return "explicit";
	}
	return "?";
}

void config_init(struct config *ret)
{
	*ret = (struct config){
		.defaults = { .address = ADDRESS_AUTO, .mode = MAPS_MODE_DIRECT },
		.max_entries = MAPS_REMOTES_MAX_DEFAULT,
		.resync_interval_s = RESYNC_INTERVAL_DEFAULT_S,
	};
}

void config_done(struct config *config)
{
	for (size_t i = 0; i < config->n_interfaces; i++)
		free(config->interfaces[i]);
	free(config->interfaces);
	for (size_t i = 0; i < config->n_rules; i++) {
		free(config->rules[i].netns);
		free(config->rules[i].ifname);
	}
	free(config->rules);
	free(config->exempt_clients);
	*config = (struct config){ 0 };
}

/* Where a value stands, for messages: "rules[2].match.remote". */
struct place {
	const struct place *parent;
	const char *key; /* NULL: element `index` of the parent */
	size_t index;
};

struct parser {
	char *error; /* CONFIG_ERROR_MAX bytes */
};

static size_t place_format(const struct place *place, char *buf, size_t size)
{
	size_t n = 0;
	int w;

	if (!place)
		return 0;
	n = place_format(place->parent, buf, size);
	if (place->key)
		w = snprintf(buf + n, size - n, "%s%s", n > 0 ? "." : "", place->key);
	else
		w = snprintf(buf + n, size - n, "[%zu]", place->index);
	if (w < 0 || (size_t)w >= size - n)
		return size - 1;
	return n + (size_t)w;
}

__attribute__((format(printf, 3, 4))) static int fail(
	struct parser *parser, const struct place *place, const char *format, ...)
{
	char where[96] = "", what[144];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	(void)place_format(place, where, sizeof(where));
	(void)snprintf(
		parser->error, CONFIG_ERROR_MAX, "%s%s%s", where, where[0] ? ": " : "", what);
	return -EINVAL;
}

static int take_string(
	struct parser *parser, const json_t *value, const struct place *place, char **ret)
{
	char *copy;

	/* A NUL inside would cut the string short of what the reader sees. */
	if (!json_is_string(value) || json_string_length(value) == 0 ||
		strlen(json_string_value(value)) != json_string_length(value))
		return fail(parser, place, "expected a string that is not empty");
	copy = strdup(json_string_value(value));
	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

static int take_prefix(struct parser *parser, const json_t *value, const struct place *place,
	struct ip4_prefix *ret)
{
	if (!json_is_string(value) || ip4_prefix_parse(json_string_value(value), ret) < 0)
		return fail(parser, place, "expected an IPv4 prefix such as \"192.0.2.0/24\"");
	return 0;
}

static int take_number(struct parser *parser, const json_t *value, const struct place *place,
	uint32_t min, uint32_t max, uint32_t *ret)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < min || number > max)
		return fail(parser, place, "expected a whole number from %u to %u", min, max);
	*ret = (uint32_t)number;
	return 0;
}

static int take_address(
	struct parser *parser, const json_t *value, const struct place *place, struct policy *ret)
{
	const char *text = json_string_value(value);

	if (text && strcmp(text, "auto") == 0)
		ret->address = ADDRESS_AUTO;
	else if (text && strcmp(text, "remote") == 0)
		ret->address = ADDRESS_REMOTE;
	else if (text && strcmp(text, "tunnel-address") == 0)
		ret->address = ADDRESS_TUNNEL_ADDRESS;
	else if (text && ip4_parse(text, &ret->explicit_address) == 0 &&
		 ip4_is_claimable(ret->explicit_address))
		ret->address = ADDRESS_EXPLICIT;
	else
		return fail(parser, place,
			"expected \"auto\", \"remote\", \"tunnel-address\" or a unicast IPv4 address");
	return 0;
}

static int take_mode(
	struct parser *parser, const json_t *value, const struct place *place, struct policy *ret)
{
	if (!json_is_string(value) || maps_mode_parse(json_string_value(value), &ret->mode) < 0)
		return fail(parser, place, "expected \"direct\", \"shadow\" or \"tunnel\"");
	return 0;
}

/* Takes one element of an array; `place` is the element's. */
typedef int element_fn(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata);

static int take_array(struct parser *parser, const json_t *array, const struct place *place,
	size_t max, const char *what, element_fn *take, void *userdata)
{
	if (!json_is_array(array) || json_array_size(array) > max)
		return fail(parser, place, "expected an array of at most %zu %s", max, what);
	for (size_t i = 0; i < json_array_size(array); i++) {
		struct place here = { .parent = place, .index = i };
		int r = take(parser, json_array_get(array, i), &here, userdata);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool parse_port(const char *text, const char **ret_end, uint16_t *ret)
{
	unsigned long value;
	char *end;

	if (text[0] < '1' || text[0] > '9') /* strtoul() would take a sign and blanks */
		return false;
	value = strtoul(text, &end, 10);
	*ret_end = end;
	*ret = (uint16_t)value;
	return value <= UINT16_MAX;
}

static int take_port_range(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata)
{
	struct maps_server_ports *ports = userdata;
	struct maps_port_range range;
	const char *text = json_string_value(value), *end;
	uint32_t port = 0;
	int r;

	if (text) {
		if (!parse_port(text, &end, &range.first) || *end != '-' ||
			!parse_port(end + 1, &end, &range.last) || *end != '\0' ||
			range.first > range.last)
			return fail(parser, place, "expected a range such as \"27015-27020\"");
	} else {
		r = take_number(parser, value, place, 1, UINT16_MAX, &port);
		if (r < 0)
			return r;
		range.first = range.last = (uint16_t)port;
	}
	ports->ranges[ports->n++] = range;
	return 0;
}

static int compare_ranges(const void *pa, const void *pb)
{
	const struct maps_port_range *a = pa, *b = pb;

	return a->first != b->first ? a->first - b->first : a->last - b->last;
}

/* An empty list is "all ports", as if the key were not there. */
static int take_ports(
	struct parser *parser, const json_t *array, const struct place *place, struct policy *ret)
{
	struct maps_server_ports ports = { 0 };
	int r;

	r = take_array(
		parser, array, place, MAPS_PORT_RANGES_MAX, "elements", take_port_range, &ports);
	if (r < 0)
		return r;
	qsort(ports.ranges, ports.n, sizeof(ports.ranges[0]), compare_ranges);
	ret->server_ports = ports;
	ret->flags &= (uint16_t)~MAPS_FLAG_SERVER_PORTS;
	if (ports.n > 0)
		ret->flags |= MAPS_FLAG_SERVER_PORTS;
	return 0;
}

static int take_exemption(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata)
{
	const char *text = json_string_value(value);
	struct policy *policy = userdata;

	for (size_t i = 0; text && i < ELEMENTS_OF(exemptions); i++) {
		if (strcmp(text, exemptions[i].name) == 0) {
			policy->flags |= (uint16_t)exemptions[i].flag;
			return 0;
		}
	}
	return fail(parser, place,
		"expected \"a2s-info\", \"a2s-challenge\", \"a2s-players\" or \"a2s-rules\"");
}

static int take_exempt(
	struct parser *parser, const json_t *array, const struct place *place, struct policy *ret)
{
	ret->flags &= (uint16_t)~MAPS_FLAGS_EXEMPT_A2S;
	return take_array(
		parser, array, place, ELEMENTS_OF(exemptions), "elements", take_exemption, ret);
}

static int take_client(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata)
{
	struct config *config = userdata;
	struct ip4_prefix *slot = ARRAY_APPEND(config->exempt_clients, config->n_exempt_clients);

	if (!slot)
		return -ENOMEM;
	config->n_exempt_clients++;
	return take_prefix(parser, value, place, slot);
}

static int take_match(struct parser *parser, const json_t *object, const struct place *place,
	struct config_rule *rule)
{
	const char *key;
	json_t *value;
	int r;

	if (!json_is_object(object))
		return fail(parser, place, "expected an object");
	json_object_foreach((json_t *)object, key, value)
	{
		struct place here = { .parent = place, .key = key };

		if (strcmp(key, "netns") == 0) {
			r = take_string(parser, value, &here, &rule->netns);
		} else if (strcmp(key, "ifname") == 0) {
			r = take_string(parser, value, &here, &rule->ifname);
		} else if (strcmp(key, "remote") == 0) {
			rule->has_remote = true;
			r = take_prefix(parser, value, &here, &rule->remote);
		} else if (strcmp(key, "local") == 0) {
			rule->has_local = true;
			r = take_prefix(parser, value, &here, &rule->local);
		} else {
			r = fail(parser, &here,
				"unknown key; expected netns, ifname, remote or local");
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int take_set(struct parser *parser, const json_t *object, const struct place *place,
	struct config_rule *rule)
{
	const char *key;
	json_t *value;
	int r;

	if (!json_is_object(object))
		return fail(parser, place, "expected an object");
	json_object_foreach((json_t *)object, key, value)
	{
		struct place here = { .parent = place, .key = key };

		if (strcmp(key, "game_server_ip") == 0) {
			rule->sets_address = true;
			r = take_address(parser, value, &here, &rule->set);
		} else if (strcmp(key, "mode") == 0) {
			rule->sets_mode = true;
			r = take_mode(parser, value, &here, &rule->set);
		} else if (strcmp(key, "server_ports") == 0) {
			rule->sets_ports = true;
			r = take_ports(parser, value, &here, &rule->set);
		} else if (strcmp(key, "exempt") == 0) {
			rule->sets_exempt = true;
			r = take_exempt(parser, value, &here, &rule->set);
		} else {
			r = fail(parser, &here,
				"unknown key; expected game_server_ip, mode, server_ports or "
				"exempt");
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int take_rule(struct parser *parser, const json_t *object, const struct place *place,
	struct config_rule *rule)
{
	const char *key;
	json_t *value;
	int r;

	if (!json_is_object(object))
		return fail(parser, place, "expected an object with \"match\" and \"set\"");
	json_object_foreach((json_t *)object, key, value)
	{
		struct place here = { .parent = place, .key = key };

		if (strcmp(key, "match") == 0)
			r = take_match(parser, value, &here, rule);
		else if (strcmp(key, "set") == 0)
			r = take_set(parser, value, &here, rule);
		else if (strcmp(key, "comment") == 0)
			r = json_is_string(value) ? 0 : fail(parser, &here, "expected a string");
		else
			r = fail(parser, &here, "unknown key; expected match, set or comment");
		if (r < 0)
			return r;
	}
	if (!json_object_get(object, "match") || !json_object_get(object, "set"))
		return fail(parser, place, "a rule needs both \"match\" and \"set\"");
	return 0;
}

static int take_rule_of(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata)
{
	struct config *config = userdata;
	struct config_rule *rule = ARRAY_APPEND(config->rules, config->n_rules);

	if (!rule)
		return -ENOMEM;
	config->n_rules++;
	return take_rule(parser, value, place, rule);
}

static int take_interface(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata)
{
	struct config *config = userdata;
	char **slot = ARRAY_APPEND(config->interfaces, config->n_interfaces);
	int r;

	if (!slot)
		return -ENOMEM;
	config->n_interfaces++;
	r = take_string(parser, value, place, slot);
	if (r < 0)
		return r;
	if (strlen(*slot) >= IFNAMSIZ)
		return fail(parser, place, "an interface name has at most %d bytes", IFNAMSIZ - 1);
	return 0;
}

static int take_config(struct parser *parser, const json_t *root, struct config *config)
{
	const char *key;
	json_t *value;
	int r;

	if (!json_is_object(root))
		return fail(parser, NULL, "expected an object");
	json_object_foreach((json_t *)root, key, value)
	{
		struct place here = { .key = key };

		if (strcmp(key, "interfaces") == 0)
			r = take_array(parser, value, &here, CONFIG_INTERFACES_MAX,
				"interface names", take_interface, config);
		else if (strcmp(key, "game_server_ip") == 0)
			r = take_address(parser, value, &here, &config->defaults);
		else if (strcmp(key, "mode") == 0)
			r = take_mode(parser, value, &here, &config->defaults);
		else if (strcmp(key, "server_ports") == 0)
			r = take_ports(parser, value, &here, &config->defaults);
		else if (strcmp(key, "exempt") == 0)
			r = take_exempt(parser, value, &here, &config->defaults);
		else if (strcmp(key, "exempt_clients") == 0)
			r = take_array(parser, value, &here, MAPS_EXEMPT_CLIENTS_MAX, "elements",
				take_client, config);
		else if (strcmp(key, "rules") == 0)
			r = take_array(parser, value, &here, CONFIG_RULES_MAX, "rules",
				take_rule_of, config);
		else if (strcmp(key, "max_entries") == 0)
			r = take_number(parser, value, &here, MAX_ENTRIES_MIN, MAX_ENTRIES_MAX,
				&config->max_entries);
		else if (strcmp(key, "resync_interval") == 0)
			r = take_number(parser, value, &here, 1, RESYNC_INTERVAL_MAX_S,
				&config->resync_interval_s);
		else if (strcmp(key, "$schema") == 0)
			r = json_is_string(value) ? 0 : fail(parser, &here, "expected a string");
		else
			r = fail(parser, &here,
				"unknown key; expected interfaces, game_server_ip, mode, "
				"server_ports, exempt, exempt_clients, rules, max_entries "
				"or resync_interval");
		if (r < 0)
			return r;
	}
	return 0;
}

int config_parse(
	const char *text, size_t size, struct config *ret, char error[static CONFIG_ERROR_MAX])
{
	json_auto_t *root = NULL;
	_cleanup_(config_done) struct config config;
	struct parser parser = { .error = error };
	json_error_t at;
	int r;

	config_init(&config);
	if (size > CONFIG_SIZE_MAX) {
		(void)fail(&parser, NULL, "larger than %d bytes", CONFIG_SIZE_MAX);
		return -E2BIG;
	}
	root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &at);
	if (!root) {
		(void)snprintf(error, CONFIG_ERROR_MAX, "line %d, column %d: %s", at.line,
			at.column, at.text);
		return -EINVAL;
	}
	r = take_config(&parser, root, &config);
	if (r < 0)
		return r;
	*ret = config;
	config = (struct config){ 0 };
	return 0;
}

static bool glob_matches_netns(const char *glob, const struct netns *netns)
{
	if (netns->n_names == 0)
		return fnmatch(glob, netns_label(netns), 0) == 0;
	for (size_t i = 0; i < netns->n_names; i++)
		if (fnmatch(glob, netns->names[i], 0) == 0)
			return true;
	return false;
}

static bool rule_matches(
	const struct config_rule *rule, const struct netns *netns, const struct ipip_link *link)
{
	return (!rule->netns || glob_matches_netns(rule->netns, netns)) &&
	       (!rule->ifname || fnmatch(rule->ifname, link->name, 0) == 0) &&
	       (!rule->has_remote || ip4_in_prefix(link->remote, &rule->remote)) &&
	       (!rule->has_local || ip4_in_prefix(link->local, &rule->local));
}

static void take_flags(struct policy *policy, const struct policy *from, int mask)
{
	policy->flags = (uint16_t)((policy->flags & ~mask) | (from->flags & mask));
}

struct policy config_policy(
	const struct config *config, const struct netns *netns, const struct ipip_link *link)
{
	struct policy policy = config->defaults;

	for (size_t i = 0; i < config->n_rules; i++) {
		const struct config_rule *rule = &config->rules[i];

		if (!rule_matches(rule, netns, link))
			continue;
		if (rule->sets_address) {
			policy.address = rule->set.address;
			policy.explicit_address = rule->set.explicit_address;
		}
		if (rule->sets_mode)
			policy.mode = rule->set.mode;
		if (rule->sets_ports) {
			policy.server_ports = rule->set.server_ports;
			take_flags(&policy, &rule->set, MAPS_FLAG_SERVER_PORTS);
		}
		if (rule->sets_exempt)
			take_flags(&policy, &rule->set, MAPS_FLAGS_EXEMPT_A2S);
		break;
	}
	if (config->n_exempt_clients > 0)
		policy.flags |= MAPS_FLAG_EXEMPT_CLIENTS;
	return policy;
}

bool policy_equal(const struct policy *a, const struct policy *b)
{
	return a->mode == b->mode && a->flags == b->flags &&
	       memcmp(&a->server_ports, &b->server_ports, sizeof(a->server_ports)) == 0;
}
