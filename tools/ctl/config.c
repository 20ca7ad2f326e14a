/* SPDX-License-Identifier: MIT */
/*
 * config check: whether the agent would take a configuration, by the agent's own parser, and where
 * not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/config_file.h"
#include "agent/core/status.h"
#include "agent/util/cleanup.h"
#include "agent/util/escape.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/output.h"

#define CONFIG_SCHEMA_VERSION 1 /* schema/ctl-config.schema.json */

#define EXCERPT_WIDTH 100 /* where there is no terminal */
#define EXCERPT_ROOM_MIN 20
#define CUT "..."
#define CUT_WIDTH (sizeof(CUT) - 1)

/* A line as it is shown, and where in it the caret stands. */
struct excerpt {
	char *text; /* escaped */
	size_t length;
	size_t caret;
};

static int excerpt_make(const char *line, size_t size, unsigned int column, struct excerpt *ret)
{
	char *text = malloc(ESCAPED_MAX * size + 1);
	unsigned int characters = 0;
	size_t n = 0, caret = 0;
	bool found = false;

	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)line[i];

		/* As json_spot_at() counts. */
		if ((c & 0xc0) != 0x80 && ++characters == column) {
			caret = n;
			found = true;
		}
		n = (size_t)(escape_invisible(text + n, c == '\t' ? ' ' : c) - text);
	}
	text[n] = '\0';
	*ret = (struct excerpt){ text, n, found ? caret : n };
	return 0;
}

/* As much of it as fits, and the caret always does. */
static void excerpt_print(const struct excerpt *excerpt, unsigned int number)
{
	unsigned int width = output_width() ?: EXCERPT_WIDTH;
	int gutter = snprintf(NULL, 0, "%5u", number);
	size_t room = EXCERPT_ROOM_MIN, first = 0, end = excerpt->length;

	if (width > (unsigned int)gutter + 3 + EXCERPT_ROOM_MIN)
		room = width - (unsigned int)gutter - 3;
	if (excerpt->caret >= room)
		first = excerpt->caret - room / 2;
	if (end - first > room)
		end = first + room;
	(void)fprintf(stderr, "%5u | ", number);
	if (first > 0)
		(void)fputs(CUT, stderr);
	for (size_t i = first + (first > 0 ? CUT_WIDTH : 0);
		i < end - (end < excerpt->length ? CUT_WIDTH : 0); i++)
		(void)fputc(excerpt->text[i], stderr);
	(void)fprintf(stderr, "%s\n%*s | %*s^\n", end < excerpt->length ? CUT : "", gutter, "",
		(int)(excerpt->caret - first), "");
}

static void show_line(const char *text, size_t size, const struct config_error *error)
{
	const char *line = text, *end = text + size, *newline;
	struct excerpt excerpt;

	for (unsigned int i = 1; i < error->line; i++) {
		newline = memchr(line, '\n', (size_t)(end - line));
		if (!newline)
			return;
		line = newline + 1;
	}
	newline = memchr(line, '\n', (size_t)(end - line));
	if (excerpt_make(line, (size_t)((newline ?: end) - line), error->column, &excerpt) < 0)
		return;
	excerpt_print(&excerpt, error->line);
	free(excerpt.text);
}

static int refuse(const struct ctl *ctl, const char *code, const char *path, const char *text,
	size_t size, const struct config_error *error)
{
	char line[CONFIG_ERROR_MAX];
	int status = ctl_fail_with(ctl, CTL_FAILED, code, status_config_error(path, error),
		"%s: %s", path, config_error_format(error, line));

	if (!ctl->json && text && error->line > 0)
		show_line(text, size, error);
	return status;
}

static int fail_read(
	const struct ctl *ctl, int r, const char *path, const struct config_error *error)
{
	switch (r) {
	case -ENOENT:
		return refuse(ctl, "not-found", path, NULL, 0, error);
	case -EACCES:
	case -EPERM:
		return refuse(ctl, "permission", path, NULL, 0, error);
	default:
		return refuse(ctl, "config-invalid", path, NULL, 0, error);
	}
}

static const char *address_text(const struct policy *policy, char buf[static IP4_STRING_MAX])
{
	return policy->address == ADDRESS_EXPLICIT ? ip4_format(policy->explicit_address, buf)
						   : address_policy_name(policy->address);
}

#define ADDRESS_TEXT(policy) address_text((policy), (char[IP4_STRING_MAX]){ 0 })

static json_t *interfaces_json(const struct config *config)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < config->n_interfaces; i++)
		(void)json_array_append_new(array, status_text(config->interfaces[i]));
	return array;
}

static json_t *hidden_json(const struct config *config)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < config->n_rules; i++) {
		size_t by = config_hidden_by(config, i);

		if (by != CONFIG_NO_RULE)
			(void)json_array_append_new(
				array, json_pack("{s:I, s:I}", "rule", (json_int_t)i, "by",
					       (json_int_t)by));
	}
	return array;
}

static int print_json(const struct ctl *ctl, const char *path, const struct config *config)
{
	const struct policy *policy = &config->defaults;
	const struct config_limits *limits = &config->limits;
	json_t *defaults = json_pack("{s:s, s:s, s:o, s:o}", "game_server_ip", ADDRESS_TEXT(policy),
		"mode", maps_mode_name(policy->mode), "server_ports", status_server_ports(policy),
		"exempt", status_exempt(policy));
	json_t *bounds = json_pack("{s:I, s:I, s:I}", "namespaces", (json_int_t)limits->namespaces,
		"tunnels_per_namespace", (json_int_t)limits->tunnels_per_namespace,
		"addresses_per_namespace", (json_int_t)limits->addresses_per_namespace);

	return ctl_print_json(
		ctl, json_pack("{s:i, s:o, s:o, s:I, s:o, s:o, s:I, s:I, s:o, s:s, s:I, s:I}",
			     "schema_version", CONFIG_SCHEMA_VERSION, "file",
			     path ? status_text(path) : json_null(), "defaults", defaults, "rules",
			     (json_int_t)config->n_rules, "hidden_rules", hidden_json(config),
			     "interfaces", interfaces_json(config), "exempt_clients",
			     (json_int_t)config->n_exempt_clients, "allowed_game_server_ips",
			     (json_int_t)config->n_allowed_ips, "limits", bounds, "offload_guard",
			     offload_policy_name(config->offload_guard), "max_entries",
			     (json_int_t)config->max_entries, "resync_interval",
			     (json_int_t)config->resync_interval_s));
}

#define LABEL_WIDTH 12

static void label(const char *text)
{
	(void)printf("%-*s", LABEL_WIDTH, text);
}

static void print_defaults(const struct policy *policy)
{
	label("Defaults");
	(void)printf(
		"mode %s, game server IP %s, ", maps_mode_name(policy->mode), ADDRESS_TEXT(policy));
	if (policy->server_ports.n > 0)
		(void)printf("%u range%s of ports\n", policy->server_ports.n,
			policy->server_ports.n == 1 ? "" : "s");
	else
		(void)puts("all ports");
}

static void print_exempt(const struct config *config)
{
	json_auto_t *exempt = status_exempt(&config->defaults);
	const json_t *query;
	size_t i;

	label("Exempt");
	json_array_foreach(exempt, i, query)
	{
		(void)printf("%s, ", json_string_value(query));
	}
	if (config->n_exempt_clients > 0)
		(void)printf("clients in %zu prefix%s\n", config->n_exempt_clients,
			config->n_exempt_clients == 1 ? "" : "es");
	else
		(void)puts("no clients");
}

static void print_hidden(const struct config *config)
{
	for (size_t i = 0; i < config->n_rules; i++) {
		size_t by = config_hidden_by(config, i);

		if (by == CONFIG_NO_RULE)
			continue;
		label("");
		print_wrapped(LABEL_WIDTH + 2, output_width(),
			"! rules[%zu] never decides%s: rules[%zu] matches all that it does, and only the "
			"first one that matches counts",
			i, config->rules[i].set.sets & SETS_TRUST ? " but for trust" : "", by);
	}
}

static void print_rules(const struct config *config)
{
	size_t trust = 0;

	for (size_t i = 0; i < config->n_rules; i++)
		trust += (config->rules[i].set.sets & SETS_TRUST) != 0;
	label("Rules");
	(void)printf("%zu", config->n_rules);
	if (trust > 0)
		(void)printf(", %zu of them about trust", trust);
	(void)fputc('\n', stdout);
	print_hidden(config);
}

static void print_summary(const char *path, const struct config *config)
{
	const struct config_limits *limits = &config->limits;

	label("File");
	if (path)
		print_escaped(stdout, "%s: good", path);
	else
		(void)fputs("none at " CONFIG_PATH_DEFAULT ": the defaults hold", stdout);
	(void)fputc('\n', stdout);
	print_defaults(&config->defaults);
	print_rules(config);
	label("Interfaces");
	for (size_t i = 0; i < config->n_interfaces; i++)
		print_escaped(stdout, "%s%s", i > 0 ? ", " : "", config->interfaces[i]);
	(void)puts(config->n_interfaces > 0 ? "" : "those of the default routes");
	label("Allowed");
	if (config->n_allowed_ips > 0)
		(void)printf("game server IPs in %zu prefix%s\n", config->n_allowed_ips,
			config->n_allowed_ips == 1 ? "" : "es");
	else
		(void)puts("all game server IPs");
	print_exempt(config);
	label("Limits");
	print_wrapped(LABEL_WIDTH, output_width(),
		"%u namespaces, each with %u tunnels and %u addresses; %u rows", limits->namespaces,
		limits->tunnels_per_namespace, limits->addresses_per_namespace,
		config->max_entries);
}

static int run_check(const struct ctl *ctl)
{
	const char *path = ctl->n_args > 0 ? ctl->args[0] : CONFIG_PATH_DEFAULT;
	_cleanup_(config_done) struct config config = { 0 };
	_cleanup_free_ char *text = NULL;
	struct config_error error;
	size_t size;
	int r;

	r = config_file_read(path, &text, &size, &error);
	if (r == -ENOENT && ctl->n_args == 0) {
		path = NULL;
		config_init(&config);
	} else if (r < 0) {
		return fail_read(ctl, r, path, &error);
	} else if (config_parse(text, size, &config, &error) < 0) {
		return refuse(ctl, "config-invalid", path, text, size, &error);
	}
	if (ctl->json)
		return print_json(ctl, path, &config);
	print_summary(path, &config);
	return CTL_OK;
}

static const struct ctl_command check_command = {
	.name = "check",
	.arguments = "[FILE]",
	.summary = "whether the agent would take a configuration",
	.help = "Reads FILE, by default " CONFIG_PATH_DEFAULT ",\n"
		"as the agent would, and says what it comes to, or what is wrong and where.\n"
		"Needs no agent and changes nothing.\n",
	.max_args = 1,
	.run = run_check,
};

static const struct ctl_command *const commands[] = { &check_command, NULL };

const struct ctl_command ctl_config_command = {
	.name = "config",
	.help = "Looks at configurations.\n",
	.sub = commands,
};
