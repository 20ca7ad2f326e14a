/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/config.h"
#include "agent/core/json_place.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

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

const char *mode_source_name(enum mode_source source)
{
	switch (source) {
	case MODE_SOURCE_DEFAULT:
		return "default";
	case MODE_SOURCE_RULE:
		return "rule";
	case MODE_SOURCE_OVERRIDE:
		return "override";
	}
	return "?";
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
		.defaults = { .address = ADDRESS_AUTO,
			.mode = MAPS_MODE_DIRECT,
			.rule = CONFIG_NO_RULE },
		.limits = { CONFIG_NETNS_DEFAULT, CONFIG_TUNNELS_DEFAULT,
			CONFIG_ADDRESSES_DEFAULT },
		.max_entries = MAPS_REMOTES_MAX_DEFAULT,
		.resync_interval_s = CONFIG_RESYNC_INTERVAL_DEFAULT_S,
	};
}

void config_done(struct config *config)
{
	for (size_t i = 0; i < config->n_interfaces; i++)
		free(config->interfaces[i]);
	free(config->interfaces);
	for (size_t i = 0; i < config->n_rules; i++) {
		free(config->rules[i].match.netns);
		free(config->rules[i].match.label);
		free(config->rules[i].match.ifname);
	}
	free(config->rules);
	free(config->exempt_clients);
	free(config->allowed_ips);
	*config = (struct config){ 0 };
}

/* Where a value stands, for messages: "rules[2].match.remote". */
struct place {
	const struct place *parent;
	const char *key; /* NULL: element `index` of the parent */
	size_t index;
};

#define DEPTH_MAX 8 /* rules[0].set.server_ports[0] is 6 deep */

struct parser {
	const char *text;
	size_t size;
	struct config_error *error;
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

static void find_place(struct parser *parser, const struct place *place, bool of_key)
{
	struct json_step steps[DEPTH_MAX];
	struct json_spot spot;
	size_t n = DEPTH_MAX;

	for (; place && n > 0; place = place->parent)
		steps[--n] = (struct json_step){ place->key, place->index };
	if (place || !json_place_find(
			     parser->text, parser->size, &steps[n], DEPTH_MAX - n, of_key, &spot))
		return;
	parser->error->line = spot.line;
	parser->error->column = spot.column;
}

__attribute__((format(printf, 4, 0))) static int fail_va(struct parser *parser,
	const struct place *place, bool of_key, const char *format, va_list ap)
{
	struct config_error *error = parser->error;

	*error = (struct config_error){ 0 };
	(void)vsnprintf(error->message, sizeof(error->message), format, ap);
	(void)place_format(place, error->place, sizeof(error->place));
	find_place(parser, place, of_key);
	return -EINVAL;
}

/* The value at `place` is wrong. */
__attribute__((format(printf, 3, 4))) static int fail(
	struct parser *parser, const struct place *place, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = fail_va(parser, place, false, format, ap);
	va_end(ap);
	return r;
}

/* The key at `place` is. */
__attribute__((format(printf, 3, 4))) static int fail_key(
	struct parser *parser, const struct place *place, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = fail_va(parser, place, true, format, ap);
	va_end(ap);
	return r;
}

/*
 * A key of an object: how its value is taken, and where it goes, as an offset into what the object
 * fills. The table of an object ends with a key without a name.
 */
struct key;
typedef int take_fn(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target);

struct key {
	const char *name;
	take_fn *take;
	size_t offset;
	uint32_t min, max; /* of numbers; max: elements of an array */
};

#define KEY_SUGGESTED_MAX 32 /* bytes of a key worth comparing with */

/* Insertions, deletions and changes that make one of the other; two that changed places are one. */
static size_t distance(const char *a, const char *b)
{
	size_t d[KEY_SUGGESTED_MAX + 1][KEY_SUGGESTED_MAX + 1] = { 0 };
	size_t na = strlen(a), nb = strlen(b);

	if (na > KEY_SUGGESTED_MAX || nb > KEY_SUGGESTED_MAX)
		return SIZE_MAX;
	for (size_t i = 0; i <= na; i++) {
		for (size_t j = 0; j <= nb; j++) {
			size_t best = i + j;

			if (i > 0 && d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (j > 0 && d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 0 && j > 0 && d[i - 1][j - 1] + (a[i - 1] != b[j - 1]) < best)
				best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[na][nb];
}

/* The key that was probably meant; NULL: none is near. */
static const char *nearest_key(const struct key *keys, const char *name)
{
	size_t best = strlen(name) / 3 + 1; /* mistakes that are forgiven: the longer, the more */
	const char *found = NULL;

	for (; keys->name; keys++) {
		size_t d = distance(keys->name, name);

		if (d < SIZE_MAX && d <= best && d < strlen(keys->name)) {
			found = keys->name;
			best = d == 0 ? 0 : d - 1;
		}
	}
	return found;
}

/* "a, b or c" */
static void list_keys(const struct key *keys, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (const struct key *key = keys; key->name; key++) {
		const char *gap = key == keys ? "" : key[1].name ? ", " : " or ";
		int w;

		if (key->name[0] == '$') /* for editors, nobody means it */
			continue;
		w = snprintf(buf + n, size - n, "%s%s", gap, key->name);
		if (w < 0 || (size_t)w >= size - n)
			return;
		n += (size_t)w;
	}
}

static int fail_unknown(
	struct parser *parser, const struct place *place, const struct key *keys, const char *name)
{
	const char *nearest = nearest_key(keys, name);
	char known[256];

	list_keys(keys, known, sizeof(known));
	return fail_key(parser, place, "unknown key; expected %s%s%s%s", known,
		nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

static int take_object(struct parser *parser, const json_t *object, const struct place *place,
	const struct key *keys, void *target)
{
	const char *name;
	json_t *value;
	int r;

	if (!json_is_object(object))
		return fail(parser, place, "expected an object");
	json_object_foreach((json_t *)object, name, value)
	{
		struct place here = { .parent = place, .key = name };
		const struct key *key = keys;

		while (key->name && strcmp(key->name, name) != 0)
			key++;
		if (!key->name)
			return fail_unknown(parser, &here, keys, name);
		r = key->take(parser, value, &here, key, (char *)target + key->offset);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Of text without a use, for people or editors. */
static int take_comment(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	(void)key;
	(void)target;
	return json_is_string(value) ? 0 : fail(parser, place, "expected a string");
}

static int take_string(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	char **place_of_copy = target, *copy;

	(void)key;
	/* A NUL inside would cut the string short of what the reader sees. */
	if (!json_is_string(value) || json_string_length(value) == 0 ||
		strlen(json_string_value(value)) != json_string_length(value))
		return fail(parser, place, "expected a string that is not empty");
	copy = strdup(json_string_value(value));
	if (!copy)
		return -ENOMEM;
	*place_of_copy = copy;
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
	const struct key *key, void *target)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < key->min || number > key->max)
		return fail(
			parser, place, "expected a whole number from %u to %u", key->min, key->max);
	*(uint32_t *)target = (uint32_t)number;
	return 0;
}

static int take_address(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	const char *text = json_string_value(value);
	struct policy *ret = target;

	(void)key;
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

static int take_mode(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	struct policy *ret = target;

	(void)key;
	if (!json_is_string(value) || maps_mode_parse(json_string_value(value), &ret->mode) < 0)
		return fail(parser, place, "expected \"direct\", \"shadow\" or \"tunnel\"");
	return 0;
}

static int take_offload_guard(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	(void)key;
	if (!json_is_string(value) || offload_policy_parse(json_string_value(value), target) < 0)
		return fail(parser, place, "expected \"auto\", \"on\" or \"off\"");
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
	static const struct key one_port = { .min = 1, .max = UINT16_MAX };
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
		r = take_number(parser, value, place, &one_port, &port);
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
static int take_ports(struct parser *parser, const json_t *array, const struct place *place,
	const struct key *key, void *target)
{
	struct maps_server_ports ports = { 0 };
	struct policy *ret = target;
	int r;

	r = take_array(parser, array, place, key->max, "ports", take_port_range, &ports);
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

static int take_exempt(struct parser *parser, const json_t *array, const struct place *place,
	const struct key *key, void *target)
{
	struct policy *ret = target;

	ret->flags &= (uint16_t)~MAPS_FLAGS_EXEMPT_A2S;
	return take_array(parser, array, place, key->max, "queries", take_exemption, ret);
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

static int take_clients(struct parser *parser, const json_t *array, const struct place *place,
	const struct key *key, void *config)
{
	return take_array(parser, array, place, key->max, "prefixes", take_client, config);
}

static int take_allowed_ip(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata)
{
	struct config *config = userdata;
	struct ip4_prefix *slot = ARRAY_APPEND(config->allowed_ips, config->n_allowed_ips);

	if (!slot)
		return -ENOMEM;
	config->n_allowed_ips++;
	return take_prefix(parser, value, place, slot);
}

static int take_allowed_ips(struct parser *parser, const json_t *array, const struct place *place,
	const struct key *key, void *config)
{
	return take_array(parser, array, place, key->max, "prefixes", take_allowed_ip, config);
}

static int take_remote(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	struct config_match *match = target;

	(void)key;
	match->has_remote = true;
	return take_prefix(parser, value, place, &match->remote);
}

static int take_local(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	struct config_match *match = target;

	(void)key;
	match->has_local = true;
	return take_prefix(parser, value, place, &match->local);
}

static int take_match(struct parser *parser, const json_t *object, const struct place *place,
	const struct key *key, void *target)
{
	static const struct key keys[] = {
		{ "netns", take_string, offsetof(struct config_match, netns), 0, 0 },
		{ "label", take_string, offsetof(struct config_match, label), 0, 0 },
		{ "ifname", take_string, offsetof(struct config_match, ifname), 0, 0 },
		{ "remote", take_remote, 0, 0, 0 },
		{ "local", take_local, 0, 0, 0 },
		{ 0 },
	};

	(void)key;
	return take_object(parser, object, place, keys, target);
}

static int take_trust(struct parser *parser, const json_t *value, const struct place *place,
	const struct key *key, void *target)
{
	(void)key;
	if (!json_is_boolean(value))
		return fail(parser, place, "expected true or false");
	*(bool *)target = json_is_true(value);
	return 0;
}

#define POLICY_OF_SET offsetof(struct config_set, policy)

static int take_set(struct parser *parser, const json_t *object, const struct place *place,
	const struct key *key, void *target)
{
	/* In the order of the bits of enum config_sets. */
	static const struct key keys[] = {
		{ "game_server_ip", take_address, POLICY_OF_SET, 0, 0 },
		{ "mode", take_mode, POLICY_OF_SET, 0, 0 },
		{ "server_ports", take_ports, POLICY_OF_SET, 0, MAPS_PORT_RANGES_MAX },
		{ "exempt", take_exempt, POLICY_OF_SET, 0, ELEMENTS_OF(exemptions) },
		{ "trust", take_trust, offsetof(struct config_set, trust), 0, 0 },
		{ 0 },
	};
	struct config_set *set = target;

	(void)key;
	for (size_t i = 0; keys[i].name; i++)
		if (json_object_get(object, keys[i].name))
			set->sets |= 1U << i;
	return take_object(parser, object, place, keys, set);
}

/*
 * Trust is the namespace's. Its owner chooses remote, local and interface name himself: these may
 * narrow what is admitted, and never get him out of being distrusted.
 */
static int check_trust(
	struct parser *parser, const struct place *rule_place, const struct config_rule *rule)
{
	const struct config_match *match = &rule->match;
	struct place set = { .parent = rule_place, .key = "set" };
	struct place trust = { .parent = &set, .key = "trust" };

	if (!(rule->set.sets & SETS_TRUST))
		return 0;
	if (rule->set.trust && !match->netns && !match->label)
		return fail(parser, &trust,
			"only a rule with \"netns\" or \"label\" in its match may trust: "
			"the rest is chosen by whoever owns the namespace");
	if (!rule->set.trust && (match->ifname || match->has_remote || match->has_local))
		return fail(parser, &trust,
			"a rule that distrusts matches by \"netns\" and \"label\" alone: "
			"the rest is chosen by whoever owns the namespace");
	return 0;
}

static int take_rule(
	struct parser *parser, const json_t *value, const struct place *place, void *userdata)
{
	static const struct key keys[] = {
		{ "match", take_match, offsetof(struct config_rule, match), 0, 0 },
		{ "set", take_set, offsetof(struct config_rule, set), 0, 0 },
		{ "comment", take_comment, 0, 0, 0 },
		{ 0 },
	};
	struct config *config = userdata;
	struct config_rule *rule = ARRAY_APPEND(config->rules, config->n_rules);
	int r;

	if (!rule)
		return -ENOMEM;
	config->n_rules++;
	r = take_object(parser, value, place, keys, rule);
	if (r < 0)
		return r;
	if (!json_object_get(value, "match") || !json_object_get(value, "set"))
		return fail(parser, place, "a rule needs both \"match\" and \"set\"");
	return check_trust(parser, place, rule);
}

static int take_rules(struct parser *parser, const json_t *array, const struct place *place,
	const struct key *key, void *config)
{
	return take_array(parser, array, place, key->max, "rules", take_rule, config);
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
	r = take_string(parser, value, place, NULL, slot);
	if (r < 0)
		return r;
	if (strlen(*slot) >= IFNAMSIZ)
		return fail(parser, place, "an interface name has at most %d bytes", IFNAMSIZ - 1);
	return 0;
}

static int take_interfaces(struct parser *parser, const json_t *array, const struct place *place,
	const struct key *key, void *config)
{
	return take_array(
		parser, array, place, key->max, "interface names", take_interface, config);
}

#define LIMIT(field) offsetof(struct config_limits, field)

static int take_limits(struct parser *parser, const json_t *object, const struct place *place,
	const struct key *key, void *target)
{
	static const struct key keys[] = {
		{ "namespaces", take_number, LIMIT(namespaces), 1, NETNS_MAX },
		{ "tunnels_per_namespace", take_number, LIMIT(tunnels_per_namespace), 1,
			NETNS_LINKS_MAX },
		{ "addresses_per_namespace", take_number, LIMIT(addresses_per_namespace), 1,
			NETNS_ADDRESSES_MAX },
		{ 0 },
	};

	(void)key;
	return take_object(parser, object, place, keys, target);
}

#define FIELD(field) offsetof(struct config, field)

static const struct key config_keys[] = {
	{ "interfaces", take_interfaces, 0, 0, CONFIG_INTERFACES_MAX },
	{ "game_server_ip", take_address, FIELD(defaults), 0, 0 },
	{ "mode", take_mode, FIELD(defaults), 0, 0 },
	{ "server_ports", take_ports, FIELD(defaults), 0, MAPS_PORT_RANGES_MAX },
	{ "exempt", take_exempt, FIELD(defaults), 0, ELEMENTS_OF(exemptions) },
	{ "exempt_clients", take_clients, 0, 0, MAPS_EXEMPT_CLIENTS_MAX },
	{ "rules", take_rules, 0, 0, CONFIG_RULES_MAX },
	{ "allowed_game_server_ips", take_allowed_ips, 0, 0, CONFIG_PREFIXES_MAX },
	{ "limits", take_limits, FIELD(limits), 0, 0 },
	{ "offload_guard", take_offload_guard, FIELD(offload_guard), 0, 0 },
	{ "$schema", take_comment, 0, 0, 0 },
	{ "max_entries", take_number, FIELD(max_entries), MAX_ENTRIES_MIN, MAX_ENTRIES_MAX },
	{ "resync_interval", take_number, FIELD(resync_interval_s), 1,
		CONFIG_RESYNC_INTERVAL_MAX_S },
	{ 0 },
};

/* Of a number or a word: what jansson does not quote because it is long. */
static bool in_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '-' || c == '+' || c == '.';
}

/*
 * jansson stops behind the token that it cannot take. Readers look for its beginning, which is known
 * when the message quotes it.
 */
static int fail_syntax(struct parser *parser, const json_error_t *at)
{
	static const char quotes[] = " near '", undecodable[] = "unable to decode";
	size_t end = at->position > 0 ? (size_t)at->position : 0, length = 0;
	const char *quote = NULL;
	struct json_spot spot;

	for (const char *next = strstr(at->text, quotes); next; next = strstr(next + 1, quotes))
		quote = next;
	if (quote)
		length = strlen(quote) - strlen(quotes) - 1; /* the quotation mark behind it */
	if (strncmp(at->text, undecodable, strlen(undecodable)) == 0)
		; /* there it stops before the byte */
	else if (quote && length > 0 && length <= end && end <= parser->size &&
		 memcmp(parser->text + end - length, quote + strlen(quotes), length) == 0)
		end -= length;
	else if (end > 0)
		for (end--; end > 0 && in_word(parser->text[end]) && in_word(parser->text[end - 1]);
			end--)
			;
	spot = json_spot_at(parser->text, parser->size, end);
	*parser->error = (struct config_error){ .line = spot.line, .column = spot.column };
	(void)snprintf(parser->error->message, sizeof(parser->error->message), "%s", at->text);
	return -EINVAL;
}

const char *config_error_format(const struct config_error *error, char buf[static CONFIG_ERROR_MAX])
{
	int n = 0;

	if (error->line > 0)
		n = snprintf(
			buf, CONFIG_ERROR_MAX, "line %u, column %u: ", error->line, error->column);
	(void)snprintf(buf + n, (size_t)(CONFIG_ERROR_MAX - n), "%s%s%s", error->place,
		error->place[0] ? ": " : "", error->message);
	return buf;
}

int config_parse(const char *text, size_t size, struct config *ret, struct config_error *error)
{
	json_auto_t *root = NULL;
	_cleanup_(config_done) struct config config;
	struct parser parser = { .text = text, .size = size, .error = error };
	const char *nul = size > 0 ? memchr(text, '\0', size) : NULL;
	json_error_t at;
	int r;

	config_init(&config);
	*error = (struct config_error){ .message = "no memory" };
	if (size > CONFIG_SIZE_MAX) {
		(void)snprintf(error->message, sizeof(error->message), "larger than %d bytes",
			CONFIG_SIZE_MAX);
		return -E2BIG;
	}
	if (nul) { /* jansson's message would end there */
		struct json_spot spot = json_spot_at(text, size, (size_t)(nul - text));

		*error = (struct config_error){ spot.line, spot.column, "",
			"a NUL byte; expected text" };
		return -EINVAL;
	}
	root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &at);
	if (!root)
		return fail_syntax(&parser, &at);
	r = take_object(&parser, root, NULL, config_keys, &config);
	if (r < 0)
		return r;
	*ret = config;
	config = (struct config){ 0 };
	return 0;
}

static bool glob_matches_netns(const char *glob, const struct netns *netns)
{
	/* Never the label: what stands in it may be chosen by whoever lives there. */
	if (netns->n_names == 0)
		return netns->nsid == NSID_OWN && fnmatch(glob, "host", 0) == 0;
	for (size_t i = 0; i < netns->n_names; i++)
		if (fnmatch(glob, netns->names[i], 0) == 0)
			return true;
	return false;
}

static bool matches_netns(const struct config_match *match, const struct netns *netns)
{
	return (!match->netns || glob_matches_netns(match->netns, netns)) &&
	       (!match->label || (netns->label && fnmatch(match->label, netns->label, 0) == 0));
}

static bool matches_link(const struct config_match *match, const struct ipip_link *link)
{
	return (!match->ifname || fnmatch(match->ifname, link->name, 0) == 0) &&
	       (!match->has_remote || ip4_in_prefix(link->remote, &match->remote)) &&
	       (!match->has_local || ip4_in_prefix(link->local, &match->local));
}

static void take_flags(struct policy *policy, const struct policy *from, int mask)
{
	policy->flags = (uint16_t)((policy->flags & ~mask) | (from->flags & mask));
}

static void override(struct policy *policy, const struct config_set *set)
{
	if (set->sets & SETS_ADDRESS) {
		policy->address = set->policy.address;
		policy->explicit_address = set->policy.explicit_address;
	}
	if (set->sets & SETS_MODE) {
		policy->mode = set->policy.mode;
		policy->mode_source = MODE_SOURCE_RULE;
	}
	if (set->sets & SETS_PORTS) {
		policy->server_ports = set->policy.server_ports;
		take_flags(policy, &set->policy, MAPS_FLAG_SERVER_PORTS);
	}
	if (set->sets & SETS_EXEMPT)
		take_flags(policy, &set->policy, MAPS_FLAGS_EXEMPT_A2S);
}

struct policy config_policy(
	const struct config *config, const struct netns *netns, const struct ipip_link *link)
{
	struct policy policy = config->defaults;

	for (size_t i = 0; i < config->n_rules; i++) {
		const struct config_rule *rule = &config->rules[i];

		if (!matches_netns(&rule->match, netns) || !matches_link(&rule->match, link))
			continue;
		override(&policy, &rule->set);
		policy.rule = i;
		break;
	}
	if (config->n_exempt_clients > 0)
		policy.flags |= MAPS_FLAG_EXEMPT_CLIENTS;
	return policy;
}

/* As far as the texts tell: of two globs only the same one. */
static bool glob_covers(const char *glob, const char *other)
{
	return !glob || (other && strcmp(glob, other) == 0);
}

static bool prefix_covers(
	bool has, const struct ip4_prefix *prefix, bool other_has, const struct ip4_prefix *other)
{
	return !has || (other_has && prefix->length <= other->length &&
			       ip4_in_prefix(other->address, prefix));
}

size_t config_hidden_by(const struct config *config, size_t rule)
{
	const struct config_match *hidden = &config->rules[rule].match;

	if (!(config->rules[rule].set.sets & ~(unsigned int)SETS_TRUST))
		return CONFIG_NO_RULE;
	for (size_t i = 0; i < rule; i++) {
		const struct config_match *match = &config->rules[i].match;

		if (glob_covers(match->netns, hidden->netns) &&
			glob_covers(match->label, hidden->label) &&
			glob_covers(match->ifname, hidden->ifname) &&
			prefix_covers(match->has_remote, &match->remote, hidden->has_remote,
				&hidden->remote) &&
			prefix_covers(
				match->has_local, &match->local, hidden->has_local, &hidden->local))
			return i;
	}
	return CONFIG_NO_RULE;
}

static bool is_about_links(const struct config_match *match)
{
	return match->ifname || match->has_remote || match->has_local;
}

bool config_trusts(
	const struct config *config, const struct netns *netns, const struct ipip_link *link)
{
	for (size_t i = 0; i < config->n_rules; i++) {
		const struct config_rule *rule = &config->rules[i];

		if (!(rule->set.sets & SETS_TRUST) || !matches_netns(&rule->match, netns))
			continue;
		if (link ? matches_link(&rule->match, link) : !is_about_links(&rule->match))
			return rule->set.trust;
	}
	return netns->owner == OWNER_HOST;
}

bool config_may_trust(const struct config *config, const struct netns *netns)
{
	for (size_t i = 0; i < config->n_rules; i++) {
		const struct config_rule *rule = &config->rules[i];

		/* One that distrusts is about the whole namespace: check_trust(). */
		if ((rule->set.sets & SETS_TRUST) && matches_netns(&rule->match, netns))
			return rule->set.trust;
	}
	return netns->owner == OWNER_HOST;
}

bool config_allows(const struct config *config, struct ip4 game_server_ip)
{
	for (size_t i = 0; i < config->n_allowed_ips; i++)
		if (ip4_in_prefix(game_server_ip, &config->allowed_ips[i]))
			return true;
	return config->n_allowed_ips == 0;
}

bool policy_equal(const struct policy *a, const struct policy *b)
{
	return a->mode == b->mode && a->flags == b->flags &&
	       memcmp(&a->server_ports, &b->server_ports, sizeof(a->server_ports)) == 0;
}
