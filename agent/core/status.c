/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/reason.h"
#include "agent/core/status.h"
#include "agent/core/status_netns.h"
#include "agent/util/cleanup.h"
#include "agent/util/escape.h"

/* What changes while it is read is read again; a busy host may need some tries. */
#define UNREAD_MAX 5

json_t *status_text(const char *bytes)
{
	_cleanup_free_ char *escaped = NULL;
	json_t *text = json_string(bytes);
	char *out;

	if (text)
		return text;
	escaped = out = malloc(ESCAPED_MAX * strlen(bytes) + 1);
	if (!escaped)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)bytes; *p; p++) {
		if (*p < 0x80)
			*out++ = (char)*p;
		else
			out = escape_byte(out, *p);
	}
	*out = '\0';
	return json_string(escaped);
}

static json_t *json_ip4(struct ip4 address)
{
	return ip4_is_none(address) ? json_null() : json_string(IP4_FORMAT(address));
}

/* RFC 3339, UTC, whole seconds. */
static json_t *json_time(time_t t)
{
	char text[32];
	struct tm tm;

	if (t == 0 || !gmtime_r(&t, &tm))
		return json_null();
	(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(text);
}

static json_t *json_text_or_null(const char *text)
{
	return text ? status_text(text) : json_null();
}

json_t *status_counters(const struct slot_counters *counters)
{
	json_t *kept = json_object();

	if (!kept)
		return NULL;
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++) {
		if (i == MAPS_KEPT_NO_ENTRY) /* counted apart: it belongs to no entry */
			continue;
		if (json_object_set_new(kept, maps_reason_name((enum maps_reason)i),
			    json_integer((json_int_t)counters->kept.packets[i])) < 0) {
			json_decref(kept);
			return NULL;
		}
	}
	return json_pack("{s:I, s:I, s:o}", "direct_packets", (json_int_t)counters->direct.packets,
		"direct_bytes", (json_int_t)counters->direct.bytes, "kept", kept);
}

/* json_pack() steals or frees "o" values, so that NULL anywhere gives NULL and no leak. */

/* Who a row or a rival is: a namespace and an interface in it. */
static json_t *make_tunnel_name(const struct tunnels *tunnels, size_t index)
{
	const struct tunnel *tunnel;

	if (index >= tunnels->n)
		return json_null();
	tunnel = &tunnels->list[index];
	return json_pack("{s:o, s:o}", "netns", status_text(netns_label(tunnel->netns)), "ifname",
		status_text(tunnel->link->name));
}

static json_t *make_game_server_ips(const struct tunnel *tunnel)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < tunnel->n_game_server_ips; i++)
		(void)json_array_append_new(array, json_ip4(tunnel->game_server_ips[i]));
	return array;
}

json_t *status_exempt(const struct policy *policy)
{
	json_t *array = json_array();

	for (int flag = 1; array && flag <= policy->flags; flag <<= 1) {
		const char *name = maps_exemption_name((enum maps_flag)flag);

		if ((policy->flags & flag) && name)
			(void)json_array_append_new(array, json_string(name));
	}
	return array;
}

json_t *status_server_ports(const struct policy *policy)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < policy->server_ports.n; i++) {
		const struct maps_port_range *range = &policy->server_ports.ranges[i];

		(void)json_array_append_new(
			array, range->first == range->last
				       ? json_integer(range->first)
				       : json_sprintf("%u-%u", range->first, range->last));
	}
	return array;
}

json_t *status_tunnel(const struct tunnels *tunnels, const struct tunnel *tunnel)
{
	bool reasoned = tunnel->reason != REASON_NONE;

	return json_pack(
		"{s:o, s:o, s:I, s:b, s:o, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:o, s:s, s:o, s:o, s:o}",
		"netns", status_text(netns_label(tunnel->netns)), "ifname",
		status_text(tunnel->link->name), "ifindex", (json_int_t)tunnel->link->ifindex, "up",
		tunnel->link->up, "local", json_ip4(tunnel->link->local), "remote",
		json_ip4(tunnel->link->remote), "state", tunnel_state_name(tunnel->state), "reason",
		reasoned ? json_string(tunnel_reason_name(tunnel->reason)) : json_null(),
		"reason_text",
		reasoned ? json_string(tunnel_reason_text(tunnel->reason)) : json_null(), "rival",
		make_tunnel_name(tunnels, tunnel->rival), "mode",
		maps_mode_name(tunnel->policy.mode), "mode_source",
		mode_source_name(tunnel->policy.mode_source), "game_server_ips",
		make_game_server_ips(tunnel), "game_server_ip_source",
		address_source_name(tunnel->address_source), "server_ports",
		status_server_ports(&tunnel->policy), "exempt", status_exempt(&tunnel->policy),
		"rule",
		tunnel->policy.rule == CONFIG_NO_RULE
			? json_null()
			: json_integer((json_int_t)tunnel->policy.rule));
}

static json_t *make_tunnels(const struct tunnels *tunnels)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < tunnels->n; i++)
		(void)json_array_append_new(array, status_tunnel(tunnels, &tunnels->list[i]));
	return array;
}

static json_t *make_row_key(const struct row *row)
{
	return json_pack("{s:o, s:o}", "remote", json_ip4(row->remote), "inner_source",
		json_ip4(row->inner_source));
}

json_t *status_row(const struct tunnels *tunnels, const struct row *row)
{
	struct ip4 game_server_ip = { row->entry.game_server_ip };

	return json_pack("{s:o, s:o, s:o, s:b, s:b, s:b, s:s, s:o}", "remote",
		json_ip4(row->remote), "inner_source", json_ip4(row->inner_source),
		"game_server_ip", json_ip4(game_server_ip), "shared",
		(row->entry.flags & MAPS_FLAG_SHARED) != 0, "own_source",
		(row->entry.flags & MAPS_FLAG_OWN_SOURCE) != 0, "private_source",
		(row->entry.flags & MAPS_FLAG_PRIVATE_SOURCE) != 0, "mode",
		maps_mode_name((enum maps_mode)row->entry.mode), "tunnel",
		make_tunnel_name(tunnels, row->tunnel));
}

static json_t *make_entry(const struct status *status, size_t index)
{
	json_t *entry = status_row(status->tunnels, &status->rows->list[index]);

	if (entry && json_object_set_new(
			     entry, "counters", status_counters(&status->counters[index])) < 0) {
		json_decref(entry);
		entry = NULL;
	}
	return entry;
}

static json_t *make_entries(const struct status *status)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < status->rows->n; i++)
		(void)json_array_append_new(array, make_entry(status, i));
	return array;
}

static json_t *make_no_room(const struct status *status)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < status->n_no_room; i++)
		(void)json_array_append_new(array, make_row_key(&status->no_room[i]));
	return array;
}

static json_t *make_guard(const struct offload_guard *guard)
{
	if (!guard->known)
		return json_null();
	return json_pack("{s:s, s:b, s:s}", "policy", offload_policy_name(guard->policy), "active",
		guard->reason == OFFLOAD_REASON_TURNED_OFF, "reason",
		offload_reason_name(guard->reason));
}

json_t *status_interface(const struct status_interface *interface)
{
	const struct attachment *attachment = &interface->attachment;
	bool attached = attachment->kind != ATTACHMENT_NONE;

	return json_pack("{s:o, s:I, s:s, s:o, s:o, s:o, s:o, s:I}", "name",
		status_text(attachment->ifname), "ifindex", (json_int_t)attachment->ifindex,
		"attachment", attachment_kind_name(attachment->kind), "program_id",
		attached ? json_integer(attachment->program_id) : json_null(), "next_hop",
		attached ? json_string(uplink_state_name(interface->next_hop)) : json_null(),
		"error", json_text_or_null(interface->error), "offload_guard",
		make_guard(&interface->guard), "restored", (json_int_t)interface->restored);
}

uint32_t status_program_of(const char *text, size_t size, uint32_t ifindex)
{
	json_auto_t *document = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	json_t *list = json_object_get(document, "interfaces"), *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		json_int_t id = json_integer_value(json_object_get(item, "program_id"));

		if (json_integer_value(json_object_get(item, "ifindex")) == (json_int_t)ifindex)
			return id > 0 && id <= UINT32_MAX ? (uint32_t)id : 0;
	}
	return 0;
}

static json_t *make_interfaces(const struct status *status)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < status->n_interfaces; i++)
		(void)json_array_append_new(array, status_interface(&status->interfaces[i]));
	return array;
}

static size_t count_tunnels(const struct status *status, enum tunnel_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < status->tunnels->n; i++)
		n += status->tunnels->list[i].state == state;
	return n;
}

static bool is_beyond_limits(enum tunnel_reason reason)
{
	return reason == REASON_TOO_MANY_NETNS || reason == REASON_TOO_MANY_TUNNELS ||
	       reason == REASON_TOO_MANY_ADDRESSES;
}

static size_t count_beyond_limits(const struct status *status)
{
	size_t n = 0;

	for (size_t i = 0; i < status->tunnels->n; i++)
		n += is_beyond_limits(status->tunnels->list[i].reason);
	return n;
}

static size_t count_doubtful(const struct status *status)
{
	size_t n = 0;

	for (size_t i = 0; i < status->tunnels->n; i++)
		n += status->tunnels->list[i].reason == REASON_ADDRESSES_UNKNOWN;
	return n;
}

static size_t count_unread(const struct status *status)
{
	size_t n = 0;

	/* No guest gives the operator an alarm. */
	for (size_t i = 0; i < status->snapshot->n_netns; i++) {
		const struct netns *netns = &status->snapshot->netns[i];

		n += netns->owner != OWNER_OTHER && !netns->is_put_off &&
		     (!netns->has_view || netns->error != 0);
	}
	return n;
}

static size_t count_attached(const struct status *status)
{
	size_t n = 0;

	for (size_t i = 0; i < status->n_interfaces; i++)
		n += status->interfaces[i].attachment.kind != ATTACHMENT_NONE;
	return n;
}

static bool is_detached(const struct status *status)
{
	return status->placement && status->placement->detached;
}

/* Interfaces that have the program still, after an operator took it off. */
static size_t count_not_left(const struct status *status)
{
	size_t n = 0;

	for (size_t i = 0; i < status->n_interfaces; i++) {
		const struct attachment *attachment = &status->interfaces[i].attachment;

		n += attachment->kind != ATTACHMENT_NONE &&
		     !placement_has(status->placement, attachment->ifname);
	}
	return n;
}

__attribute__((format(printf, 2, 3))) static void add_problem(
	json_t *problems, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)json_array_append_new(problems, json_vsprintf(format, ap));
	va_end(ap);
}

/* One sentence each, for people; what they are made of stands elsewhere in the document. */
static json_t *make_problems(const struct status *status)
{
	size_t conflicts = count_tunnels(status, TUNNEL_CONFLICT), unread = count_unread(status);
	size_t beyond = count_beyond_limits(status), doubtful = count_doubtful(status);
	json_t *problems = json_array();
	char text[CONFIG_ERROR_MAX];

	if (!problems)
		return NULL;
	if (is_detached(status) && count_not_left(status) > 0)
		add_problem(problems,
			"an operator detached it, but it is still attached to %zu interface%s; it is "
			"tried again",
			count_not_left(status), count_not_left(status) == 1 ? "" : "s");
	else if (is_detached(status))
		add_problem(problems,
			"detached by an operator: %s stay on the tunnel until 'ipipdirectctl attach'",
			status->placement->n > 0 ? "packets of other interfaces" : "all packets");
	else if (status->takeover_waits)
		add_problem(problems, "the program that was attached before goes on until all "
				      "namespaces were read");
	else if (status->n_interfaces == 0)
		add_problem(problems, NO_INTERFACE);
	if (count_attached(status) < status->n_interfaces && !status->takeover_waits)
		add_problem(problems, "not attached to %zu of %zu interfaces",
			status->n_interfaces - count_attached(status), status->n_interfaces);
	if (status->pass_error < 0)
		add_problem(problems,
			"the last pass failed, the map may be wrong: %s; it is tried again",
			strerror(-status->pass_error));
	if (status->unread >= UNREAD_MAX)
		add_problem(problems, "not everything could be read in the last %u passes",
			status->unread);
	if (conflicts > 0)
		add_problem(problems,
			"%zu tunnel%s in conflict, wholly or partly on the tunnel path", conflicts,
			conflicts == 1 ? "" : "s");
	if (status->max_rows != status->wanted_rows)
		add_problem(problems,
			"the maps have room for %u rows, not for %u (max_entries): others could "
			"not be made yet; it is tried again",
			status->max_rows, status->wanted_rows);
	if (status->n_no_room > 0)
		add_problem(problems,
			"map full: no room for %zu rows, their packets stay on the tunnel%s",
			status->n_no_room,
			status->max_rows < status->wanted_rows ? "" : "; raise max_entries");
	if (unread > 0)
		add_problem(problems, "%zu namespace%s could not be read", unread,
			unread == 1 ? "" : "s");
	status_netns_problems(status->snapshot, problems);
	if (!status->snapshot->complete)
		add_problem(problems, "not all namespaces were read yet: nothing is removed");
	if (beyond > 0)
		add_problem(problems,
			"%zu tunnel%s without a row: their namespaces are beyond limits", beyond,
			beyond == 1 ? "" : "s");
	if (doubtful > 0)
		add_problem(problems,
			"%zu tunnel%s left to the tunnel path: whose the public address is cannot be told; "
			"set game_server_ip",
			doubtful, doubtful == 1 ? "" : "s");
	if (status->config_error)
		add_problem(problems, "configuration refused, the former one holds: %s",
			config_error_format(status->config_error, text));
	return problems;
}

bool status_is_degraded(const struct status *status)
{
	json_t *problems = make_problems(status);
	bool degraded = !problems || json_array_size(problems) > 0;

	json_decref(problems);
	return degraded;
}

json_t *status_config_error(const char *file, const struct config_error *error)
{
	bool placed = error->line > 0;

	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "file", status_text(file), "line",
		placed ? json_integer(error->line) : json_null(), "column",
		placed ? json_integer(error->column) : json_null(), "place",
		error->place[0] ? status_text(error->place) : json_null(), "message",
		status_text(error->message));
}

static json_t *make_agent(const struct status *status)
{
	static const struct placement as_configured = { 0 };
	json_t *problems = make_problems(status);
	bool degraded = problems && json_array_size(problems) > 0;

	return json_pack(
		"{s:s, s:i, s:o, s:o, s:I, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:o}",
		"version", IPIPDIRECT_VERSION, "pid", status->pid, "started_at",
		json_time(status->started_at), "synced_at", json_time(status->synced_at), "passes",
		(json_int_t)status->passes, "resync_interval",
		(json_int_t)status->resync_interval_s, "route_reads",
		(json_int_t)status->route_reads, "state", degraded ? "degraded" : "ok", "problems",
		problems, "config", json_text_or_null(status->config_path), "config_loaded_at",
		json_time(status->config_loaded_at), "config_error",
		status->config_error
			? status_config_error(status->config_file, status->config_error)
			: json_null(),
		"reloads", (json_int_t)status->reloads, "unlisted_tunnels",
		(json_int_t)status->tunnels->n_unlisted, "placement",
		placement_json(status->placement ?: &as_configured));
}

static json_t *make_map(const struct status *status)
{
	size_t remotes = 0;

	for (size_t i = 0; i < status->rows->n; i++)
		remotes += status->rows->list[i].map == ROW_REMOTES;
	return json_pack("{s:i, s:I, s:I, s:I, s:o, s:I, s:I}", "abi", MAPS_ABI, "max_rows",
		(json_int_t)status->max_rows, "remotes", (json_int_t)remotes, "sources",
		(json_int_t)(status->rows->n - remotes), "no_room", make_no_room(status),
		"no_entry_packets", (json_int_t)status->no_entry->kept.packets[MAPS_KEPT_NO_ENTRY],
		"no_program_packets",
		(json_int_t)status->no_entry->kept.packets[MAPS_KEPT_NO_PROGRAM]);
}

json_t *status_make(const struct status *status)
{
	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schema_version",
		STATUS_SCHEMA_VERSION, "agent", make_agent(status), "interfaces",
		make_interfaces(status), "map", make_map(status), "tunnels",
		make_tunnels(status->tunnels), "mode_overrides", overrides_json(status->overrides),
		"entries", make_entries(status), "namespaces", status_namespaces(status->snapshot),
		"skipped_files", status_skipped_files(status->snapshot), "discovery",
		status_discovery(status->snapshot));
}
