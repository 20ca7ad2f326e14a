/* SPDX-License-Identifier: MIT */
/* Configuration text: taken whole or refused with a place in it, the same each time. */

#include <errno.h>

#include "agent/core/config.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

/* Every decision that a configuration takes part in, for a namespace with names of its own choice. */
static void decide(const struct config *config)
{
	char *names[] = { "game1", "a*[?]\\" };
	struct netns netns = { .names = names, .n_names = 2, .label = "unit.service" };
	struct ipip_link link = { .name = "tun0", .up = true, .proto = 4 };
	struct ip4 address = { 0x017100cb };

	for (int owner = OWNER_UNKNOWN; owner <= OWNER_OTHER; owner++) {
		struct policy policy;

		netns.owner = (enum netns_owner)owner;
		policy = config_policy(config, &netns, &link);
		CHECK(policy.rule == CONFIG_NO_RULE || policy.rule < config->n_rules);
		CHECK(maps_mode_name(policy.mode)[0] != '?');
		CHECK(address_policy_name(policy.address)[0] != '?');
		CHECK(!config_trusts(config, &netns, &link) || config_may_trust(config, &netns));
	}
	(void)config_allows(config, address);
}

static void check_limits(const struct config *config)
{
	CHECK(config->n_rules <= CONFIG_RULES_MAX);
	CHECK(config->n_interfaces <= CONFIG_INTERFACES_MAX);
	CHECK(config->n_allowed_ips <= CONFIG_PREFIXES_MAX);
	CHECK(config->limits.namespaces <= NETNS_MAX);
	CHECK(config->max_entries > 0 && config->resync_interval_s > 0);
}

static void check_error(const struct config_error *error, const char *text, size_t size)
{
	char line[CONFIG_ERROR_MAX];
	unsigned int lines = 1;

	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	CHECK(error->message[0] != '\0');
	CHECK(error->line <= lines);
	CHECK(error->column <= size + 1);
	CHECK(strlen(config_error_format(error, line)) < CONFIG_ERROR_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = copy_exactly(data, size);
	struct config config, again;
	struct config_error error = { 0 }, same = { 0 };
	int r = config_parse(text, size, &config, &error);

	if (r < 0) {
		CHECK(r == -EINVAL || r == -E2BIG);
		check_error(&error, text, size);
		CHECK(config_parse(text, size, &again, &same) == r);
		CHECK(error.line == same.line && error.column == same.column);
		CHECK(strcmp(error.place, same.place) == 0);
		CHECK(strcmp(error.message, same.message) == 0);
		return 0;
	}
	check_limits(&config);
	decide(&config);
	config_done(&config);
	return 0;
}
