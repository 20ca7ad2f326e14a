/* SPDX-License-Identifier: MIT */
/*
 * metrics: the counters of the pinned maps and the state of the agent, for monitoring. What is not known
 * has no sample, instead of one that says 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/core/ip4.h"
#include "agent/core/reason.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/attached.h"
#include "tools/ctl/exposition.h"
#include "tools/ctl/sample.h"

struct source {
	struct agent_view view;
	struct owners owners;
	struct live live;
	bool has_live;
	struct attached attached;
};

static void source_done(struct source *source)
{
	attached_done(&source->attached);
	owners_done(&source->owners);
	live_done(&source->live);
	agent_view_done(&source->view);
}

static void add_one(struct exposition *out, const struct metric *metric, json_int_t value)
{
	exposition_begin(out, metric);
	exposition_add(out, metric, NULL, value);
}

/* ---- the agent */

static void add_agent(struct exposition *out, const struct source *source)
{
	static const struct metric up = { METRIC_GAUGE, "agent_up", NULL,
		"Whether an agent is running." };
	static const struct metric degraded = { METRIC_GAUGE, "agent_degraded", NULL,
		"Whether the agent reports a problem." };
	static const struct metric started = { METRIC_GAUGE, "agent_start_time_seconds", "seconds",
		"When the agent started, since the epoch." };
	static const struct metric synced = { METRIC_GAUGE, "last_sync_timestamp_seconds",
		"seconds",
		"When last everything was read and the maps agreed with it, since the epoch." };
	static const struct metric interval = { METRIC_GAUGE, "resync_interval_seconds", "seconds",
		"How often everything is read at least." };
	const json_t *agent = json_object_get(source->view.document, "agent");

	if (source->view.life != AGENT_UNKNOWN)
		add_one(out, &up, source->view.life == AGENT_RUNNING);
	if (!agent)
		return;
	add_one(out, &degraded,
		strcmp(json_text(agent, "state"), "ok") != 0 || agent_is_stale(&source->view));
	if (json_time_at(agent, "started_at") > 0)
		add_one(out, &started, json_time_at(agent, "started_at"));
	add_one(out, &interval, agent_resync_interval(source->view.document));
	if (json_time_at(agent, "synced_at") > 0)
		add_one(out, &synced, json_time_at(agent, "synced_at"));
}

static json_int_t count_tunnels(const json_t *tunnels, const char *state)
{
	const json_t *tunnel;
	json_int_t n = 0;
	size_t i;

	json_array_foreach((json_t *)tunnels, i, tunnel) n +=
		!agent_is_fallback(tunnel) && strcmp(json_text(tunnel, "state"), state) == 0;
	return n;
}

static void add_tunnels(struct exposition *out, const json_t *document)
{
	static const struct metric tunnels = {
		METRIC_GAUGE, "tunnels", NULL,
		"IPIP tunnels of all namespaces, by what became of them; fallback devices (tunl0) do not count."
	};
	static const char *const states[] = { "mapped", "skipped", "conflict" };

	exposition_begin(out, &tunnels);
	for (size_t i = 0; i < ELEMENTS_OF(states); i++)
		exposition_add(out, &tunnels, (const char *[]){ "state", states[i], NULL },
			count_tunnels(json_object_get(document, "tunnels"), states[i]));
}

static void add_namespaces(struct exposition *out, const json_t *document)
{
	static const struct metric all = { METRIC_GAUGE, "namespaces", NULL,
		"Network namespaces that were found." };
	static const struct metric unread = { METRIC_GAUGE, "namespaces_unread", NULL,
		"Network namespaces that could not be read." };
	const json_t *namespaces = json_object_get(document, "namespaces"), *netns;
	json_int_t n = 0;
	size_t i;

	json_array_foreach((json_t *)namespaces, i, netns) n +=
		json_is_false(json_object_get(netns, "read"));
	add_one(out, &all, (json_int_t)json_array_size(namespaces));
	add_one(out, &unread, n);
}

static void add_interfaces(struct exposition *out, const struct source *source)
{
	static const struct metric attached = { METRIC_GAUGE, "interface_attached", NULL,
		"Whether the program is on an interface where the agent wants it." };
	const json_t *interface;
	size_t i;

	exposition_begin(out, &attached);
	json_array_foreach(json_object_get(source->view.document, "interfaces"), i, interface)
	{
		int is_attached = attached_now(&source->attached, &source->view, interface);

		if (is_attached < 0)
			continue;
		exposition_add(out, &attached,
			(const char *[]){ "interface", json_text(interface, "name"), NULL },
			is_attached);
	}
}

/* ---- the maps */

/* Labels of a row; `reason` NULL: none. */
struct labels {
	const char *list[11];
	char remote[IP4_STRING_MAX], inner_source[IP4_STRING_MAX];
};

static void labels_make(
	const struct source *source, const struct row *row, const char *reason, struct labels *ret)
{
	const json_t *tunnel = owners_find(&source->owners, row);
	size_t n = 0;

	(void)ip4_format(row->remote, ret->remote);
	(void)ip4_format(row->inner_source, ret->inner_source);
	ret->list[n++] = "remote";
	ret->list[n++] = ret->remote;
	ret->list[n++] = "inner_source";
	ret->list[n++] = row->map == ROW_SOURCES ? ret->inner_source : "";
	ret->list[n++] = "netns";
	ret->list[n++] = json_text(tunnel, "netns");
	ret->list[n++] = "ifname";
	ret->list[n++] = json_text(tunnel, "ifname");
	if (reason) {
		ret->list[n++] = "reason";
		ret->list[n++] = reason;
	}
	ret->list[n] = NULL;
}

static uint64_t direct_packets(const struct slot_counters *counters)
{
	return counters->direct.packets;
}

static uint64_t direct_bytes(const struct slot_counters *counters)
{
	return counters->direct.bytes;
}

static uint64_t dropped(const struct slot_counters *counters)
{
	return counters->kept.packets[MAPS_DROP_WRITE_FAILED];
}

static void add_rows(struct exposition *out, const struct source *source)
{
	static const struct {
		struct metric metric;
		uint64_t (*read)(const struct slot_counters *counters);
	} columns[] = {
		{ { METRIC_COUNTER, "direct_packets", "packets",
			  "Packets sent straight to clients, as on the wire." },
			direct_packets },
		{ { METRIC_COUNTER, "direct_bytes", "bytes",
			  "Their bytes, without the outer header that was stripped." },
			direct_bytes },
		{ { METRIC_COUNTER, "dropped_packets", "packets",
			  "Packets dropped because a write after the strip failed." },
			dropped },
	};
	struct labels labels;

	for (size_t column = 0; column < ELEMENTS_OF(columns); column++) {
		exposition_begin(out, &columns[column].metric);
		for (size_t i = 0; i < source->live.rows.n; i++) {
			labels_make(source, &source->live.rows.list[i], NULL, &labels);
			exposition_add(out, &columns[column].metric, labels.list,
				(json_int_t)columns[column].read(&source->live.counters[i]));
		}
	}
}

/* Only reasons that occurred: with all of them there would be eighteen series a row. */
static void add_kept(struct exposition *out, const struct source *source)
{
	static const struct metric kept = {
		METRIC_COUNTER, "kept_packets", "packets",
		"Packets left to the tunnel, by reason; reasons that never occurred are left out."
	};
	struct labels labels;

	exposition_begin(out, &kept);
	for (size_t i = 0; i < source->live.rows.n; i++) {
		for (size_t j = 0; j < MAPS_REASON_COUNT; j++) {
			uint64_t n = source->live.counters[i].kept.packets[j];

			if (n == 0 || j == MAPS_DROP_WRITE_FAILED)
				continue;
			labels_make(source, &source->live.rows.list[i],
				maps_reason_name((enum maps_reason)j), &labels);
			exposition_add(out, &kept, labels.list, (json_int_t)n);
		}
	}
}

/* Of packets without a row: never a sum over rows, which would go back when one goes. */
static void add_unmapped(struct exposition *out, const struct source *source)
{
	static const struct metric unmapped = { METRIC_COUNTER, "unmapped_packets", "packets",
		"IPIP packets left to the tunnel that belong to no row, by reason." };
	static const enum maps_reason reasons[] = { MAPS_KEPT_NO_ENTRY, MAPS_KEPT_NO_PROGRAM };

	exposition_begin(out, &unmapped);
	for (size_t i = 0; i < ELEMENTS_OF(reasons); i++)
		exposition_add(out, &unmapped,
			(const char *[]){ "reason", maps_reason_name(reasons[i]), NULL },
			(json_int_t)source->live.no_entry.kept.packets[reasons[i]]);
}

static const char *const map_names[] = { "remotes", "sources" };

/* By the agent's word: the maps do not hold what they have no room for. */
static void add_no_room(struct exposition *out, const json_t *document)
{
	static const struct metric left_out = { METRIC_GAUGE, "map_rows_without_room", NULL,
		"Rows for which the pinned maps had no room: their packets stay on the tunnel." };
	const json_t *row, *no_room = json_object_get(json_object_get(document, "map"), "no_room");
	json_int_t n[ELEMENTS_OF(map_names)] = { 0 };
	size_t i;

	json_array_foreach((json_t *)no_room, i, row)
		n[json_is_string(json_object_get(row, "inner_source"))]++;
	exposition_begin(out, &left_out);
	for (i = 0; i < ELEMENTS_OF(map_names); i++)
		exposition_add(out, &left_out, (const char *[]){ "map", map_names[i], NULL }, n[i]);
}

static void add_room(struct exposition *out, const struct source *source)
{
	static const struct metric rows = { METRIC_GAUGE, "map_rows", NULL,
		"Rows in the pinned maps." };
	static const struct metric room = { METRIC_GAUGE, "map_capacity_rows", NULL,
		"Rows for which the pinned maps have room." };
	const struct map_use use = live_use(&source->live);
	const json_int_t n[] = { (json_int_t)use.remotes, (json_int_t)use.sources };

	exposition_begin(out, &rows);
	for (size_t i = 0; i < ELEMENTS_OF(map_names); i++)
		exposition_add(out, &rows, (const char *[]){ "map", map_names[i], NULL }, n[i]);
	exposition_begin(out, &room);
	for (size_t i = 0; i < ELEMENTS_OF(map_names); i++)
		exposition_add(out, &room, (const char *[]){ "map", map_names[i], NULL },
			(json_int_t)source->live.maps.max_rows);
}

/* ---- all of it */

static void add_all(struct exposition *out, const struct source *source)
{
	static const struct metric build = { METRIC_GAUGE, "build_info", NULL,
		"The version of ipipdirectctl; always 1." };
	static const struct metric status = { METRIC_GAUGE, "status_readable", NULL,
		"Whether there is a status of an agent, which the metrics of the agent are of." };
	static const struct metric maps = { METRIC_GAUGE, "maps_readable", NULL,
		"Whether there are pinned maps, which the metrics of rows and packets are of." };

	exposition_begin(out, &build);
	exposition_add(out, &build, (const char *[]){ "version", IPIPDIRECT_VERSION, NULL }, 1);
	add_one(out, &status, source->view.document != NULL);
	add_one(out, &maps, source->has_live);
	add_agent(out, source);
	if (source->view.document) {
		add_tunnels(out, source->view.document);
		add_namespaces(out, source->view.document);
		add_interfaces(out, source);
		add_no_room(out, source->view.document);
	}
	if (source->has_live) {
		add_room(out, source);
		add_rows(out, source);
		add_kept(out, source);
		add_unmapped(out, source);
	}
	exposition_end(out);
}

/* What may not be read is an error: half of it would look like all of it. */
static int read_source(const struct ctl *ctl, struct source *source)
{
	int r;

	r = live_read(&source->live);
	if (r == 0)
		r = live_count(&source->live);
	if (r < 0 && r != -ENOENT)
		return live_fail(ctl, r);
	source->has_live = r == 0;
	attached_read(&source->attached);
	if (agent_read(ctl, &source->view) < 0 ||
		owners_make(source->view.document, &source->owners) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (source->view.error == -EACCES || source->view.error == -EPERM)
		return agent_fail(ctl, &source->view);
	return CTL_OK;
}

/* In one step, and through no symbolic link: a reader sees the old file or the new one. */
static int write_file(const struct ctl *ctl, const char *text, size_t size)
{
	_cleanup_free_ char *for_directory = strdup(ctl->textfile),
			    *for_name = strdup(ctl->textfile);
	_cleanup_close_ int directory = -1;
	int r = 0;

	if (!for_directory || !for_name)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	directory = open(dirname(for_directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		r = -errno;
	(void)umask(0027); /* the collector reads it by its group, whatever the caller's is */
	if (r == 0)
		r = file_replace(directory, basename(for_name), text, size);
	if (r < 0)
		return ctl_fail(ctl, CTL_FAILED,
			r == -EACCES || r == -EPERM ? "permission" : "failed", NULL,
			"cannot write %s: %s", ctl->textfile, strerror(-r));
	return CTL_OK;
}

static int run_metrics(const struct ctl *ctl)
{
	_cleanup_(source_done) struct source source = { .live = LIVE_NONE };
	struct exposition exposition = { .open_metrics = !ctl->textfile };
	_cleanup_free_ char *text = NULL;
	size_t size = 0;
	int status;

	status = read_source(ctl, &source);
	if (status != CTL_OK)
		return status;
	exposition.out = open_memstream(&text, &size);
	if (!exposition.out)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	add_all(&exposition, &source);
	if (fclose(exposition.out) != 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (ctl->textfile)
		return write_file(ctl, text, size);
	(void)fwrite(text, 1, size, stdout); /* main() looks for errors */
	return CTL_OK;
}

const struct ctl_command ctl_metrics_command = {
	.name = "metrics",
	.summary = "counters and state, for Prometheus",
	.help = "Prints metrics in the OpenMetrics text format: packets and bytes by row,\n"
		"packets kept by reason, the maps, the tunnels, the interfaces and the agent.\n"
		"Needs no agent.\n"
		"\n"
		"With --textfile it writes FILE instead, in one step, for the textfile collector\n"
		"of node_exporter; in the older text format, the only one which that reads.\n"
		"-j concerns errors only.\n",
	.options = CTL_OPTION_TEXTFILE,
	.run = run_metrics,
};
