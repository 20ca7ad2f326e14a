/* SPDX-License-Identifier: MIT */
/*
 * The core's side of the schemas, for test_schema.py:
 *
 *   core_probe status          prints a status document with a bit of everything in it
 *   core_probe status-minimal  prints the one of an agent that has seen nothing yet
 *   core_probe config FILE     ends with 0 when the parser takes FILE, else prints why not
 *
 * schema/examples/status*.json are what the first two print.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/config.h"
#include "agent/core/status.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

static const char config_text[] =
	"{\"rules\": [{\"match\": {\"netns\": \"csgo\"}, \"set\": {\"mode\": \"shadow\","
	" \"server_ports\": [\"27015-27020\", 7777], \"exempt\": [\"a2s-info\", \"a2s-players\"]}}]}";

static const char world[] = "host 198.18.0.2\n"
			    " tunl0 0.0.0.0\n"
			    "netns minecraft\n"
			    " tun0 203.0.113.10 10.0.0.1\n"
			    "netns valheim\n"
			    " tun0 192.0.2.1 198.51.100.20 198.51.100.21\n"
			    "netns csgo\n"
			    " tun0 192.0.2.1 198.51.100.30\n"
			    "netns copy-of-csgo\n"
			    " tun0 192.0.2.2 198.51.100.30\n"
			    "netns rust\n"
			    " fou0 203.0.113.40 10.0.0.4 fou\n"
			    " spare0 203.0.113.41 10.0.0.5 down\n"
			    "guest unshared\n"
			    " tun0 203.0.113.10 10.0.0.1\n"
			    "netns broken\n";

struct scene {
	struct snapshot snapshot;
	struct config config;
	struct overrides overrides;
	struct tunnels tunnels;
	struct rows rows;
	struct slot_counters counters[16];
	struct slot_counters no_entry;
	struct status_interface interfaces[2];
	struct row no_room;
};

static void scene_done(struct scene *scene)
{
	rows_done(&scene->rows);
	tunnels_done(&scene->tunnels);
	overrides_done(&scene->overrides);
	config_done(&scene->config);
	snapshot_done(&scene->snapshot);
}

static void add_found(struct netns *netns, const char *kind, const char *what)
{
	netns->found = realloc(netns->found, (netns->n_found + 1) * sizeof(*netns->found));
	assert_non_null(netns->found);
	assert_true(asprintf(&netns->found[netns->n_found++], "%s%s", kind, what) > 0);
}

/* Where each namespace was found, and who lives there. */
static void place(struct snapshot *snapshot)
{
	struct netns *last = &snapshot->netns[snapshot->n_netns - 1];

	add_found(&snapshot->netns[0], "the agent's own", "");
	for (size_t i = 0; i < snapshot->n_netns; i++) {
		struct netns *netns = &snapshot->netns[i];

		for (size_t j = 0; j < netns->n_names; j++)
			add_found(netns, "file /run/netns/", netns->names[j]);
	}
	/* One that only a process leads to, which may not be looked into. */
	last->id = (struct netns_id){ 0 };
	last->owner = OWNER_OTHER;
	free(last->names[0]);
	free(last->found[0]);
	last->n_names = last->n_found = 0;
	add_found(last, "process ", "1234");
	last->label = strdup("broken.service");
	snapshot->sources[0] = (struct netns_source){ .name = "/run/netns", .was_read = true };
	snapshot->sources[1] = (struct netns_source){ .name = "/proc", .was_read = true };
	snapshot->n_sources = 2;
}

/* What the world's text cannot say. */
static void spoil(struct snapshot *snapshot)
{
	struct netns *last = &snapshot->netns[snapshot->n_netns - 1];

	place(snapshot);
	for (size_t i = 1; i < snapshot->n_netns; i++)
		for (size_t j = 0; j < snapshot->netns[i].view.n_links; j++)
			snapshot->netns[i].view.links[j].local = ip4_of("198.18.0.2");
	last->error = -EACCES;
	last->has_view = false;
	snapshot->complete = false;
	snapshot->skipped = calloc(1, sizeof(*snapshot->skipped));
	assert_non_null(snapshot->skipped);
	snapshot->skipped[0].path = strdup("/run/netns/notes.txt");
	snapshot->skipped[0].reason = "not a network namespace";
	snapshot->n_skipped = 1;
}

static void name_rows(struct scene *scene)
{
	for (size_t i = 0; i < scene->rows.n; i++) {
		struct slot_counters *counters = &scene->counters[i];

		scene->rows.list[i].entry.slot = (uint32_t)i + 1;
		counters->direct.packets = 1000 * (i + 1);
		counters->direct.bytes = 512345 * (i + 1);
		counters->kept.packets[MAPS_KEPT_NO_NEXT_HOP] = i;
	}
}

static void set_scene(struct scene *scene)
{
	const struct present present = { &(const struct rows){ 0 }, true };
	struct config_error error;

	world_parse(world, &scene->snapshot);
	spoil(&scene->snapshot);
	assert_int_equal(config_parse(config_text, strlen(config_text), &scene->config, &error), 0);
	assert_int_equal(
		overrides_set(&scene->overrides, "minecraft", "tun0", MAPS_MODE_DIRECT, true), 0);
	assert_int_equal(tunnels_make(&scene->snapshot, &scene->config, &scene->overrides, NULL,
				 &scene->tunnels),
		0);
	assert_int_equal(desired_make(&scene->tunnels, &present, &scene->rows), 0);
	assert_true(scene->rows.n <= sizeof(scene->counters) / sizeof(scene->counters[0]));
	name_rows(scene);
	scene->no_entry.kept.packets[MAPS_KEPT_NO_ENTRY] = 7;
	scene->interfaces[0].attachment = (struct attachment){
		.ifindex = 2, .ifname = "eth0", .kind = ATTACHMENT_TCX, .program_id = 42
	};
	scene->interfaces[0].guard = (struct offload_guard){
		.known = true, .policy = OFFLOAD_AUTO, .reason = OFFLOAD_REASON_TURNED_OFF
	};
	scene->interfaces[0].restored = 1;
	scene->interfaces[1] = (struct status_interface){
		.attachment = { .ifname = "eth1", .error = -ENODEV },
		.error = "there is no such interface",
	};
	scene->no_room = (struct row){ .map = ROW_REMOTES, .remote = ip4_of("203.0.113.99") };
}

static int print_status(bool minimal)
{
	static const struct config_error refused = { 3, 11, "mode",
		"expected \"direct\", \"shadow\" or \"tunnel\"" };
	static const struct placement besides = { false, { "eth1" }, 1 };
	_cleanup_(scene_done) struct scene scene = { 0 };
	struct status status = {
		.pid = 4711,
		.started_at = 1767225600, /* 2026-01-01 */
		.snapshot = &scene.snapshot,
		.tunnels = &scene.tunnels,
		.rows = &scene.rows,
		.counters = scene.counters,
		.no_entry = &scene.no_entry,
		.max_rows = MAPS_REMOTES_MAX_DEFAULT,
		.wanted_rows = MAPS_REMOTES_MAX_DEFAULT,
		.resync_interval_s = CONFIG_RESYNC_INTERVAL_DEFAULT_S,
	};
	json_t *document;

	if (!minimal) {
		set_scene(&scene);
		status.synced_at = status.started_at + 3600;
		status.passes = 121;
		status.route_reads = 12;
		status.config_path = "/etc/ipipdirect/config.json";
		status.config_file = status.config_path;
		status.config_loaded_at = status.started_at + 60;
		status.config_error = &refused;
		status.reloads = 2;
		status.overrides = &scene.overrides;
		status.placement = &besides;
		status.no_room = &scene.no_room;
		status.n_no_room = 1;
		status.interfaces = scene.interfaces;
		status.n_interfaces = 2;
	}
	document = status_make(&status);
	if (!document || json_dumpf(document, stdout, JSON_INDENT(2)) < 0)
		return EXIT_FAILURE;
	json_decref(document);
	(void)putchar('\n');
	return EXIT_SUCCESS;
}

static int check_config(const char *path)
{
	_cleanup_(config_done) struct config config = { 0 };
	char line[CONFIG_ERROR_MAX];
	struct config_error error;
	_cleanup_free_ char *text = NULL;
	size_t size;

	if (file_read(path, CONFIG_SIZE_MAX, &text, &size) < 0) {
		(void)fprintf(stderr, "cannot read %s\n", path);
		return 2;
	}
	if (config_parse(text, size, &config, &error) < 0) {
		(void)puts(config_error_format(&error, line));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "status") == 0)
		return print_status(false);
	if (argc == 2 && strcmp(argv[1], "status-minimal") == 0)
		return print_status(true);
	if (argc == 3 && strcmp(argv[1], "config") == 0)
		return check_config(argv[2]);
	(void)fputs("usage: core_probe status | status-minimal | config FILE\n", stderr);
	return 2;
}
