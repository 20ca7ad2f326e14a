/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/tunnel.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

struct ip4 ip4_of(const char *text)
{
	struct ip4 address;

	if (ip4_parse(text, &address) < 0)
		fail_msg("'%s' is no address", text);
	return address;
}

static void add_address(struct netns *netns, uint32_t ifindex, const char *text)
{
	struct netns_address *address =
		ARRAY_APPEND(netns->view.addresses, netns->view.n_addresses);

	assert_non_null(address);
	netns->view.n_addresses++;
	address->ifindex = ifindex;
	address->address = ip4_of(text);
	address->prefix_length = 32;
}

static struct netns *add_netns(struct snapshot *snapshot, const char *name)
{
	struct netns *netns = ARRAY_APPEND(snapshot->netns, snapshot->n_netns);
	bool own = strcmp(name, "host") == 0;

	assert_non_null(netns);
	netns->id = (struct netns_id){ .dev = 4, .ino = 100 + snapshot->n_netns };
	netns->nsid = own ? NSID_OWN : (int32_t)snapshot->n_netns;
	netns->seq = snapshot->n_netns;
	netns->has_view = true;
	netns->owner = OWNER_HOST;
	snapshot->n_netns++;
	if (!own) {
		char **slot = ARRAY_APPEND(netns->names, netns->n_names);

		assert_non_null(slot);
		*slot = strdup(name);
		netns->n_names++;
	}
	return netns;
}

static void set_flag(struct ipip_link *link, const char *word)
{
	if (strcmp(word, "fou") == 0)
		link->encap_type = 1;
	else if (strcmp(word, "gue") == 0)
		link->encap_type = 2;
	else if (strcmp(word, "external") == 0)
		link->external = true;
	else if (strcmp(word, "mpls") == 0)
		link->proto = 137;
	else if (strcmp(word, "down") == 0)
		link->up = false;
	else if (strncmp(word, "local=", 6) == 0)
		link->local = ip4_of(word + 6);
	else
		fail_msg("unknown word '%s'", word);
}

static void add_tunnel(struct netns *netns, const char *name, char **save)
{
	struct ipip_link *link = ARRAY_APPEND(netns->view.links, netns->view.n_links);
	const char *word;

	assert_non_null(link);
	link->ifindex = 10 + (uint32_t)netns->view.n_links;
	netns->view.n_links++;
	(void)snprintf(link->name, sizeof(link->name), "%s", name);
	link->up = true;
	link->proto = 4;
	link->remote = ip4_of(strtok_r(NULL, " ", save));
	while ((word = strtok_r(NULL, " ", save))) {
		if (word[0] >= '0' && word[0] <= '9')
			add_address(netns, link->ifindex, word);
		else if (strcmp(word, "-") != 0)
			set_flag(link, word);
	}
}

/* Found by a process, and by no file. */
static void take_name(struct netns *netns)
{
	free(netns->names[0]);
	free(netns->names);
	netns->names = NULL;
	netns->n_names = 0;
}

static void parse_line(struct snapshot *snapshot, char *line)
{
	bool indented = line[0] == ' ';
	char *save, *word = strtok_r(line, " ", &save);
	struct netns *netns;
	bool guest;

	if (!word)
		return;
	if (indented) {
		assert_true(snapshot->n_netns > 0);
		add_tunnel(&snapshot->netns[snapshot->n_netns - 1], word, &save);
		return;
	}
	guest = strcmp(word, "guest") == 0;
	if (guest || strcmp(word, "netns") == 0)
		word = strtok_r(NULL, " ", &save);
	netns = add_netns(snapshot, word);
	if (guest)
		netns->owner = OWNER_OTHER;
	while ((word = strtok_r(NULL, " ", &save))) {
		if (word[0] >= '0' && word[0] <= '9')
			add_address(netns, 2, word);
		else if (strncmp(word, "label=", 6) == 0)
			assert_non_null(netns->label = strdup(word + 6));
		else if (strcmp(word, "unnamed") == 0)
			take_name(netns);
		else if (strcmp(word, "unread") == 0)
			netns->has_view = false;
		else if (strcmp(word, "renewed") == 0)
			netns->is_renewed = true;
		else if (strcmp(word, "truncated") == 0)
			netns->view.truncated = true;
		else
			fail_msg("unknown word '%s'", word);
	}
}

void world_parse(const char *text, struct snapshot *ret)
{
	_cleanup_free_ char *copy = strdup(text);
	struct snapshot snapshot = { .complete = true };
	char *save, *line;

	assert_non_null(copy);
	for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		parse_line(&snapshot, line);
	for (size_t i = 0; i < snapshot.n_netns; i++)
		netns_view_sort(&snapshot.netns[i].view);
	*ret = snapshot;
}

void world_config(const char *text, struct config *ret)
{
	char line[CONFIG_ERROR_MAX];
	struct config_error error;

	if (!text) {
		config_init(ret);
		return;
	}
	if (config_parse(text, strlen(text), ret, &error) < 0)
		fail_msg("%s", config_error_format(&error, line));
}

__attribute__((format(printf, 3, 4))) static void append(
	char *buf, size_t size, const char *format, ...)
{
	size_t n = strlen(buf);
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(buf + n, size - n, format, ap);
	va_end(ap);
}

static void print_tunnel(
	const struct tunnels *tunnels, const struct tunnel *tunnel, char *buf, size_t size)
{
	append(buf, size, "%s/%s %s", netns_label(tunnel->netns), tunnel->link->name,
		tunnel_state_name(tunnel->state));
	if (tunnel->reason != REASON_NONE)
		append(buf, size, " %s", tunnel_reason_name(tunnel->reason));
	if (tunnel->rival < tunnels->n)
		append(buf, size, " by %s/%s", netns_label(tunnels->list[tunnel->rival].netns),
			tunnels->list[tunnel->rival].link->name);
	if (tunnel->state == TUNNEL_MAPPED)
		append(buf, size, " %s", address_source_name(tunnel->address_source));
	if (tunnel->policy.rule != CONFIG_NO_RULE)
		append(buf, size, " rule %zu", tunnel->policy.rule);
	append(buf, size, "\n");
}

static void print_row(const struct row *row, char *buf, size_t size)
{
	append(buf, size, "%s %s", row->map == ROW_REMOTES ? "remote" : "source",
		IP4_FORMAT(row->remote));
	if (row->map == ROW_SOURCES)
		append(buf, size, " %s", IP4_FORMAT(row->inner_source));
	if (row->entry.flags & MAPS_FLAG_SHARED)
		append(buf, size, " shared");
	else
		append(buf, size, " -> %s %s",
			IP4_FORMAT(((struct ip4){ row->entry.game_server_ip })),
			maps_mode_name((enum maps_mode)row->entry.mode));
	if (row->entry.flags & MAPS_FLAG_OWN_SOURCE)
		append(buf, size, " own");
	if (row->entry.flags & MAPS_FLAG_PRIVATE_SOURCE)
		append(buf, size, " private");
	if (row->entry.flags & ~MAPS_FLAGS_SOURCE)
		append(buf, size, " flags 0x%x", row->entry.flags & ~MAPS_FLAGS_SOURCE);
	append(buf, size, "\n");
}

static void make_rows(const char *world, const char *config_text, const struct present *present,
	struct snapshot *snapshot, struct tunnels *tunnels, struct rows *rows)
{
	_cleanup_(config_done) struct config config = { 0 };

	world_parse(world, snapshot);
	world_config(config_text, &config);
	assert_int_equal(tunnels_make(snapshot, &config, NULL, NULL, tunnels), 0);
	assert_int_equal(desired_make(tunnels, present, rows), 0);
}

static const struct present nothing = { .rows = &(const struct rows){ 0 }, .complete = true };

const char *world_outcome_with(
	const char *world, const char *config_text, const struct present *present)
{
	static char buf[65536];
	_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	_cleanup_(rows_done) struct rows rows = { 0 };

	buf[0] = '\0';
	make_rows(world, config_text, present, &snapshot, &tunnels, &rows);
	for (size_t i = 0; i < tunnels.n; i++)
		print_tunnel(&tunnels, &tunnels.list[i], buf, sizeof(buf));
	for (size_t i = 0; i < rows.n; i++)
		print_row(&rows.list[i], buf, sizeof(buf));
	return buf;
}

const char *world_outcome(const char *world, const char *config_text)
{
	return world_outcome_with(world, config_text, &nothing);
}

void world_rows_with(
	const char *world, const char *config_text, const struct present *present, struct rows *ret)
{
	_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };

	make_rows(world, config_text, present, &snapshot, &tunnels, ret);
}

void world_rows(const char *world, const char *config_text, struct rows *ret)
{
	world_rows_with(world, config_text, &nothing, ret);
}
