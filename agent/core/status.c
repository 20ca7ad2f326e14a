/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/reason.h"
#include "agent/core/status.h"
#include "agent/util/cleanup.h"

json_t *status_text(const char *bytes)
{
	static const char digits[] = "0123456789abcdef";
	_cleanup_free_ char *escaped = NULL;
	json_t *text = json_string(bytes);
	char *out;

	if (text)
		return text;
	escaped = out = malloc(4 * strlen(bytes) + 1);
	if (!escaped)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)bytes; *p; p++) {
		if (*p < 0x80) {
			*out++ = (char)*p;
			continue;
		}
		*out++ = '\\';
		*out++ = 'x';
		*out++ = digits[*p >> 4];
		*out++ = digits[*p & 15];
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

static json_t *make_netns_names(const struct netns *netns)
{
	json_t *names = json_array();

	for (size_t i = 0; names && i < netns->n_names; i++)
		(void)json_array_append_new(names, status_text(netns->names[i]));
	return names;
}

static json_t *make_namespace(const struct netns *netns)
{
	return json_pack("{s:o, s:o, s:I, s:I, s:o, s:b, s:o}", "label",
		status_text(netns_label(netns)), "names", make_netns_names(netns), "dev",
		(json_int_t)netns->id.dev, "inode", (json_int_t)netns->id.ino, "nsid",
		netns->nsid == NSID_OWN ? json_null() : json_integer(netns->nsid), "read",
		netns->has_view && netns->error == 0, "error",
		netns->error < 0 ? json_string(strerror(-netns->error)) : json_null());
}

static json_t *make_namespaces(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < snapshot->n_netns; i++)
		(void)json_array_append_new(array, make_namespace(&snapshot->netns[i]));
	return array;
}

static json_t *make_skipped(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < snapshot->n_skipped; i++)
		(void)json_array_append_new(array,
			json_pack("{s:o, s:s}", "path", status_text(snapshot->skipped[i].path),
				"reason", snapshot->skipped[i].reason));
	return array;
}

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

static json_t *make_exempt(const struct policy *policy)
{
	json_t *array = json_array();

	for (int flag = 1; array && flag <= policy->flags; flag <<= 1) {
		const char *name = maps_exemption_name((enum maps_flag)flag);

		if ((policy->flags & flag) && name)
			(void)json_array_append_new(array, json_string(name));
	}
	return array;
}

/* As in the configuration: a number, or "first-last". */
static json_t *make_server_ports(const struct policy *policy)
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

static json_t *make_tunnel(const struct tunnels *tunnels, const struct tunnel *tunnel)
{
	bool reasoned = tunnel->reason != REASON_NONE;

	return json_pack(
		"{s:o, s:o, s:I, s:b, s:o, s:o, s:s, s:o, s:o, s:o, s:s, s:o, s:s, s:o, s:o}",
		"netns", status_text(netns_label(tunnel->netns)), "ifname",
		status_text(tunnel->link->name), "ifindex", (json_int_t)tunnel->link->ifindex, "up",
		tunnel->link->up, "local", json_ip4(tunnel->link->local), "remote",
		json_ip4(tunnel->link->remote), "state", tunnel_state_name(tunnel->state), "reason",
		reasoned ? json_string(tunnel_reason_name(tunnel->reason)) : json_null(),
		"reason_text",
		reasoned ? json_string(tunnel_reason_text(tunnel->reason)) : json_null(), "rival",
		make_tunnel_name(tunnels, tunnel->rival), "mode",
		maps_mode_name(tunnel->policy.mode), "game_server_ips",
		make_game_server_ips(tunnel), "game_server_ip_source",
		address_source_name(tunnel->address_source), "server_ports",
		make_server_ports(&tunnel->policy), "exempt", make_exempt(&tunnel->policy));
}

static json_t *make_tunnels(const struct tunnels *tunnels)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < tunnels->n; i++)
		(void)json_array_append_new(array, make_tunnel(tunnels, &tunnels->list[i]));
	return array;
}

static json_t *make_row_key(const struct row *row)
{
	return json_pack("{s:o, s:o}", "remote", json_ip4(row->remote), "inner_source",
		json_ip4(row->inner_source));
}

static json_t *make_entry(const struct status *status, size_t index)
{
	const struct row *row = &status->rows->list[index];
	struct ip4 game_server_ip = { row->entry.game_server_ip };
	json_t *entry = make_row_key(row);
	json_t *rest = json_pack("{s:o, s:b, s:s, s:o, s:o}", "game_server_ip",
		json_ip4(game_server_ip), "shared", (row->entry.flags & MAPS_FLAG_SHARED) != 0,
		"mode", maps_mode_name((enum maps_mode)row->entry.mode), "tunnel",
		make_tunnel_name(status->tunnels, row->tunnel), "counters",
		status_counters(&status->counters[index]));

	if (entry && json_object_update(entry, rest) < 0) {
		json_decref(entry);
		entry = NULL;
	}
	json_decref(rest);
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

static json_t *make_interface(const struct status_interface *interface)
{
	const struct attachment *attachment = &interface->attachment;

	return json_pack("{s:o, s:I, s:s, s:o, s:o}", "name", status_text(attachment->ifname),
		"ifindex", (json_int_t)attachment->ifindex, "attachment",
		attachment_kind_name(attachment->kind), "program_id",
		attachment->kind == ATTACHMENT_NONE ? json_null()
						    : json_integer(attachment->program_id),
		"error", json_text_or_null(interface->error));
}

static json_t *make_interfaces(const struct status *status)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < status->n_interfaces; i++)
		(void)json_array_append_new(array, make_interface(&status->interfaces[i]));
	return array;
}

static size_t count_tunnels(const struct status *status, enum tunnel_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < status->tunnels->n; i++)
		n += status->tunnels->list[i].state == state;
	return n;
}

static size_t count_unread(const struct status *status)
{
	size_t n = 0;

	for (size_t i = 0; i < status->snapshot->n_netns; i++)
		n += !status->snapshot->netns[i].has_view || status->snapshot->netns[i].error != 0;
	return n;
}

static size_t count_attached(const struct status *status)
{
	size_t n = 0;

	for (size_t i = 0; i < status->n_interfaces; i++)
		n += status->interfaces[i].attachment.kind != ATTACHMENT_NONE;
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
	json_t *problems = json_array();

	if (!problems)
		return NULL;
	if (status->n_interfaces == 0)
		add_problem(problems, "no interface to attach to: there is no default route");
	else if (count_attached(status) < status->n_interfaces)
		add_problem(problems, "not attached to %zu of %zu interfaces",
			status->n_interfaces - count_attached(status), status->n_interfaces);
	if (conflicts > 0)
		add_problem(problems, "%zu tunnel%s in conflict, on the tunnel path", conflicts,
			conflicts == 1 ? "" : "s");
	if (status->n_no_room > 0)
		add_problem(problems,
			"map full: no room for %zu rows, their packets stay on the "
			"tunnel; raise max_entries",
			status->n_no_room);
	if (unread > 0)
		add_problem(problems, "%zu namespace%s could not be read", unread,
			unread == 1 ? "" : "s");
	if (!status->snapshot->complete)
		add_problem(problems, "not all namespaces were read yet: nothing is removed");
	if (status->config_error)
		add_problem(problems, "configuration refused, the former one holds: %s",
			status->config_error);
	return problems;
}

bool status_is_degraded(const struct status *status)
{
	json_t *problems = make_problems(status);
	bool degraded = !problems || json_array_size(problems) > 0;

	json_decref(problems);
	return degraded;
}

static json_t *make_agent(const struct status *status)
{
	json_t *problems = make_problems(status);
	bool degraded = problems && json_array_size(problems) > 0;

	return json_pack("{s:s, s:i, s:o, s:o, s:I, s:s, s:o, s:o}", "version", IPIPDIRECT_VERSION,
		"pid", status->pid, "started_at", json_time(status->started_at), "synced_at",
		json_time(status->synced_at), "passes", (json_int_t)status->passes, "state",
		degraded ? "degraded" : "ok", "problems", problems, "config",
		json_text_or_null(status->config_path));
}

static json_t *make_map(const struct status *status)
{
	size_t remotes = 0;

	for (size_t i = 0; i < status->rows->n; i++)
		remotes += status->rows->list[i].map == ROW_REMOTES;
	return json_pack("{s:i, s:I, s:I, s:I, s:o, s:I}", "abi", MAPS_ABI, "max_rows",
		(json_int_t)status->max_rows, "remotes", (json_int_t)remotes, "sources",
		(json_int_t)(status->rows->n - remotes), "no_room", make_no_room(status),
		"no_entry_packets", (json_int_t)status->no_entry->kept.packets[MAPS_KEPT_NO_ENTRY]);
}

json_t *status_make(const struct status *status)
{
	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schema_version",
		STATUS_SCHEMA_VERSION, "agent", make_agent(status), "interfaces",
		make_interfaces(status), "map", make_map(status), "tunnels",
		make_tunnels(status->tunnels), "entries", make_entries(status), "namespaces",
		make_namespaces(status->snapshot), "skipped_files", make_skipped(status->snapshot));
}
