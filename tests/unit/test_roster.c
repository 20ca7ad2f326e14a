/* SPDX-License-Identifier: MIT */
/* From what the sources saw to namespaces: each once, with all its names, and nothing known is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/roster.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

static const struct netns_id own = { 4, 1 };

/* One pass after another over sources that a test sets. */
struct scene {
	struct sightings sources[3]; /* files, processes, numbers */
	struct snapshot snapshot;
	uint64_t next_seq;
	int32_t own_nsid;
	struct config config;
	struct roster_limit limit;
};

static int set_up(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	if (!scene)
		return -1;
	scene->own_nsid = NSID_NONE;
	scene->limit = (struct roster_limit){ NETNS_MAX, &scene->config };
	*state = scene;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *scene = *state;

	for (size_t i = 0; i < ELEMENTS_OF(scene->sources); i++)
		sightings_done(&scene->sources[i]);
	snapshot_done(&scene->snapshot);
	config_done(&scene->config);
	free(scene);
	return 0;
}

static struct sighting *see(struct scene *scene, enum sighting_kind kind, int32_t nsid)
{
	struct sighting *sighting = sightings_append(&scene->sources[kind]);

	assert_non_null(sighting);
	sighting->kind = kind;
	sighting->nsid = nsid;
	return sighting;
}

static struct sighting *see_file(struct scene *scene, const char *path, int32_t nsid, uint64_t ino)
{
	struct sighting *sighting = see(scene, SIGHTING_FILE, nsid);

	sighting->path = strdup(path);
	assert_non_null(sighting->path);
	sighting->name = strrchr(sighting->path, '/') + 1;
	sighting->id = (struct netns_id){ ino ? 4 : 0, ino };
	sighting->owner = ino ? OWNER_HOST : OWNER_UNKNOWN;
	sighting->owner_is_certain = true;
	return sighting;
}

static struct sighting *see_process(
	struct scene *scene, uint32_t pid, int32_t nsid, const char *label, enum netns_owner owner)
{
	struct sighting *sighting = see(scene, SIGHTING_PROCESS, nsid);

	sighting->pid = pid;
	sighting->label = strdup(label);
	assert_non_null(sighting->label);
	sighting->owner = owner;
	return sighting;
}

static void look_away(struct scene *scene)
{
	for (size_t i = 0; i < ELEMENTS_OF(scene->sources); i++)
		sightings_done(&scene->sources[i]);
}

static void pass(struct scene *scene)
{
	struct snapshot fresh;

	assert_int_equal(
		roster_make(scene->sources, ELEMENTS_OF(scene->sources), &own, scene->own_nsid,
			&scene->limit, &scene->snapshot, &scene->next_seq, &fresh),
		0);
	snapshot_done(&scene->snapshot);
	scene->snapshot = fresh;
}

static void append(char *buf, size_t size, const char *text)
{
	size_t n = strlen(buf);

	(void)snprintf(buf + n, size - n, "%s", text);
}

/* "seq label owner nsid inode names | found", a line each. */
static const char *outcome(const struct scene *scene)
{
	static char buf[65536];

	buf[0] = '\0';
	for (size_t i = 0; i < scene->snapshot.n_netns; i++) {
		const struct netns *netns = &scene->snapshot.netns[i];
		char line[160];

		(void)snprintf(line, sizeof(line), "%d %s %s %d %d", (int)netns->seq,
			netns_label(netns), netns_owner_name(netns->owner), netns->nsid,
			(int)netns->id.ino);
		append(buf, sizeof(buf), line);
		for (size_t j = 0; j < netns->n_names; j++) {
			append(buf, sizeof(buf), " ");
			append(buf, sizeof(buf), netns->names[j]);
		}
		for (size_t j = 0; j < netns->n_found; j++) {
			append(buf, sizeof(buf), j == 0 ? " | " : ", ");
			append(buf, sizeof(buf), netns->found[j]);
		}
		append(buf, sizeof(buf), "\n");
	}
	return buf;
}

#define HOST "0 host host -1 1 | the agent's own\n"

static void test_nothing_but_the_host(void **state)
{
	struct scene *scene = *state;

	pass(scene);
	assert_string_equal(outcome(scene), HOST);
}

static void test_each_once_with_all_names(void **state)
{
	struct scene *scene = *state;

	(void)see(scene, SIGHTING_NSID, 9);
	(void)see(scene, SIGHTING_NSID, 7);
	(void)see(scene, SIGHTING_NSID, 3);
	(void)see_process(scene, 41, 9, "rust", OWNER_HOST);
	(void)see_process(scene, 40, 3, "csgo.service", OWNER_HOST);
	(void)see_file(scene, "/run/netns/zeta", 3, 103);
	(void)see_file(scene, "/run/netns/alpha", 3, 103);
	(void)see_file(scene, "/run/docker/netns/alpha", 3, 103);
	see_file(scene, "/run/netns/host", NSID_OWN, 1)->name = NULL;
	/* As Docker's, of a container whose processes are hidden. */
	see_file(scene, "/run/docker/netns/0123456789ab", 8, 108)->name = NULL;
	pass(scene);
	assert_string_equal(outcome(scene),
		"0 host host -1 1 | the agent's own, file /run/netns/host\n"
		"1 alpha host 3 103 alpha zeta | file /run/docker/netns/alpha, file /run/netns/alpha,"
		" file /run/netns/zeta, process 40\n"
		"2 nsid-7 unknown 7 0 | nsid only\n"
		"3 nsid-8 host 8 108 | file /run/docker/netns/0123456789ab\n"
		"4 rust host 9 0 | process 41\n");
	assert_string_equal(scene->snapshot.netns[1].label, "csgo.service");
}

/* Whose label a namespace has: his, as long as he is there, and while nobody is. */
static void test_a_label_outlives_its_process(void **state)
{
	struct scene *scene = *state;

	(void)see_process(scene, 41, 9, "game1.service", OWNER_HOST);
	pass(scene);
	assert_string_equal(netns_label(&scene->snapshot.netns[1]), "game1.service");
	/* A file leads to it by somebody else, who comes before the processes. */
	see_file(scene, "/run/netns/dbg", 9, 109)->name = NULL;
	scene->sources[SIGHTING_FILE].list[0].label = strdup("sidecar.service");
	pass(scene);
	assert_string_equal(netns_label(&scene->snapshot.netns[1]), "game1.service");
	look_away(scene);
	(void)see(scene, SIGHTING_NSID, 9);
	pass(scene);
	assert_string_equal(outcome(scene), "0 host host -1 1 | the agent's own\n"
					    "1 game1.service host 9 109 | nsid only\n");
	/* Somebody else alone: it is his. */
	look_away(scene);
	(void)see_process(scene, 50, 9, "sidecar.service", OWNER_HOST);
	pass(scene);
	assert_string_equal(netns_label(&scene->snapshot.netns[1]), "sidecar.service");
	/* A number is nobody's name. */
	look_away(scene);
	(void)see(scene, SIGHTING_NSID, 12);
	pass(scene);
	assert_string_equal(netns_label(&scene->snapshot.netns[1]), "nsid-12");
	look_away(scene);
	(void)see_process(scene, 70, 12, "game2.service", OWNER_HOST);
	pass(scene);
	assert_string_equal(netns_label(&scene->snapshot.netns[1]), "game2.service");
}

/* The same whatever the order of directory entries and of the kernel's list. */
static void test_order_does_not_depend_on_the_sources(void **state)
{
	struct scene *scene = *state;
	char first[65536];

	for (int i = 0; i < 50; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/run/netns/g%d", i * 7 % 50);
		(void)see_file(scene, path, i, 100 + (uint64_t)i);
		(void)see(scene, SIGHTING_NSID, i);
	}
	pass(scene);
	(void)strcpy(first, outcome(scene));
	for (size_t k = 0; k < 2; k++) {
		struct sightings *source = &scene->sources[2 * k];

		for (size_t i = 0; i < source->n / 2; i++) {
			struct sighting swap = source->list[i];

			source->list[i] = source->list[source->n - 1 - i];
			source->list[source->n - 1 - i] = swap;
		}
	}
	snapshot_done(&scene->snapshot);
	scene->next_seq = 0;
	pass(scene);
	assert_string_equal(outcome(scene), first);
}

static void test_owner(void **state)
{
	struct scene *scene = *state;

	/* The kernel's word counts more than what processes let guess. */
	(void)see_file(scene, "/run/netns/rooted", 1, 101);
	(void)see_process(scene, 11, 1, "a", OWNER_OTHER);
	(void)see_process(scene, 12, 2, "b", OWNER_HOST);
	(void)see_process(scene, 13, 2, "b", OWNER_OTHER);
	(void)see_process(scene, 14, 3, "c", OWNER_HOST);
	pass(scene);
	assert_int_equal(scene->snapshot.netns[1].owner, OWNER_HOST);
	assert_int_equal(scene->snapshot.netns[2].owner, OWNER_OTHER);
	assert_int_equal(scene->snapshot.netns[3].owner, OWNER_HOST);
	/* Doubt stays, and so does what was known for certain. */
	look_away(scene);
	(void)see(scene, SIGHTING_NSID, 1);
	(void)see_process(scene, 15, 2, "b", OWNER_HOST);
	(void)see(scene, SIGHTING_NSID, 3);
	pass(scene);
	assert_string_equal(outcome(scene), HOST "1 a host 1 101 | nsid only\n"
						 "2 b other 2 0 | process 15\n"
						 "3 c host 3 0 | nsid only\n");
}

static void give_views(struct scene *scene)
{
	for (size_t i = 0; i < scene->snapshot.n_netns; i++) {
		struct netns *netns = &scene->snapshot.netns[i];

		netns->view.links = calloc(1, sizeof(*netns->view.links));
		assert_non_null(netns->view.links);
		netns->view.n_links = 1;
		netns->view.links[0].ifindex = (uint32_t)netns->nsid;
		netns->has_view = true;
	}
}

static void test_what_is_known_is_taken_over(void **state)
{
	struct scene *scene = *state;

	(void)see_file(scene, "/run/netns/b", 1, 101);
	(void)see_file(scene, "/run/netns/c", 2, 102);
	pass(scene);
	give_views(scene);
	scene->snapshot.netns[2].error = -5;
	(void)see_file(scene, "/run/netns/a", 0, 100);
	pass(scene);
	assert_string_equal(outcome(scene), HOST "1 b host 1 101 b | file /run/netns/b\n"
						 "2 c host 2 102 c | file /run/netns/c\n"
						 "3 a host 0 100 a | file /run/netns/a\n");
	assert_true(scene->snapshot.netns[1].has_view);
	assert_int_equal(scene->snapshot.netns[1].view.links[0].ifindex, 1);
	assert_int_equal(scene->snapshot.netns[2].error, -5);
	assert_false(scene->snapshot.netns[3].has_view);
}

/* A number, and an inode's as well, goes to the next namespace as soon as one ends. */
static void test_a_number_of_another_is_no_acquaintance(void **state)
{
	struct scene *scene = *state;

	(void)see_file(scene, "/run/netns/a", 1, 101);
	(void)see_process(scene, 20, 2, "x", OWNER_OTHER);
	(void)see_file(scene, "/run/netns/c", 3, 103);
	pass(scene);
	give_views(scene);
	scene->snapshot.netns[2].is_renewed = true; /* c, which sorts before the nameless one */
	assert_int_equal(scene->snapshot.netns[2].nsid, 3);
	look_away(scene);
	(void)see_file(scene, "/run/netns/a", 1, 201); /* another inode */
	(void)see_process(scene, 20, 2, "x", OWNER_HOST);
	(void)see_file(scene, "/run/netns/c", 3, 103); /* all the same, but given back meanwhile */
	pass(scene);
	assert_string_equal(outcome(scene), HOST "3 x other 2 0 | process 20\n"
						 "4 a host 1 201 a | file /run/netns/a\n"
						 "5 c host 3 103 c | file /run/netns/c\n");
	assert_true(scene->snapshot.netns[1].has_view);
	assert_false(scene->snapshot.netns[2].has_view);
	assert_false(scene->snapshot.netns[3].has_view);
}

static void test_unknown_is_not_absent(void **state)
{
	struct scene *scene = *state;

	(void)see_file(scene, "/run/netns/a", 1, 101);
	(void)see_file(scene, "/run/netns/b", 2, 102);
	pass(scene);
	give_views(scene);
	look_away(scene);
	/* One cannot be opened; of the other no number can be had. The third is new. */
	(void)see_file(scene, "/run/netns/a", NSID_NONE, 0);
	(void)see_file(scene, "/run/netns/b", NSID_NONE, 102);
	(void)see_file(scene, "/run/netns/new", NSID_NONE, 0);
	pass(scene);
	assert_string_equal(outcome(scene), HOST "1 a host 1 101 a | file /run/netns/a\n"
						 "2 b host 2 102 b | file /run/netns/b\n");
	assert_true(scene->snapshot.netns[1].has_view);
	assert_int_equal(scene->snapshot.n_unresolved, 1);
}

/* … nor is one present by a number that was given back. */
static void test_a_number_that_was_given_back_is_not_remembered(void **state)
{
	struct scene *scene = *state;

	(void)see_file(scene, "/run/netns/a", 1, 101);
	(void)see_file(scene, "/run/netns/b", 2, 102);
	pass(scene);
	scene->snapshot.netns[1].is_renewed = scene->snapshot.netns[2].is_renewed = true;
	look_away(scene);
	(void)see_file(scene, "/run/netns/a", NSID_NONE, 0);
	(void)see_file(scene, "/run/netns/b", NSID_NONE, 102);
	(void)see_process(scene, 20, 1, "x", OWNER_OTHER);
	pass(scene);
	assert_string_equal(outcome(scene), HOST "3 x other 1 0 | process 20\n");
	assert_int_equal(scene->snapshot.n_unresolved, 2);
}

/* Somebody gave the agent's namespace a number in itself. */
static void test_the_own_number_is_the_own_namespace(void **state)
{
	struct scene *scene = *state;

	scene->own_nsid = 5;
	(void)see(scene, SIGHTING_NSID, 5);
	(void)see_process(scene, 20, 5, "x", OWNER_OTHER);
	pass(scene);
	assert_int_equal(scene->snapshot.n_netns, 1);
	assert_int_equal(scene->snapshot.netns[0].owner, OWNER_HOST);
	assert_int_equal(scene->snapshot.netns[0].nsid, NSID_OWN);
}

static void test_newcomers_do_not_push_out_the_old(void **state)
{
	struct scene *scene = *state;

	for (int32_t i = 0; i < 10; i++)
		(void)see(scene, SIGHTING_NSID, NETNS_MAX + 1000 + i);
	pass(scene);
	for (int32_t i = 0; i < NETNS_MAX; i++)
		(void)see(scene, SIGHTING_NSID, i);
	pass(scene);
	assert_int_equal(scene->snapshot.n_netns, NETNS_MAX);
	assert_int_equal(scene->snapshot.n_more, 11);
	assert_int_equal(scene->snapshot.netns[10].nsid, NETNS_MAX + 1009);
	assert_int_equal(scene->snapshot.netns[11].nsid, 0);
}

static void set_config(struct scene *scene, const char *text)
{
	struct config_error error;

	config_done(&scene->config);
	assert_int_equal(config_parse(text, strlen(text), &scene->config, &error), 0);
}

/* Whoever makes namespaces, before or after, takes the place of none that counts, or might. */
static void test_strangers_give_way(void **state)
{
	struct scene *scene = *state;

	scene->limit.max = 6;
	for (int32_t i = 0; i < 10; i++)
		(void)see_process(scene, 100 + (uint32_t)i, i, "stranger", OWNER_OTHER);
	pass(scene);
	assert_int_equal(scene->snapshot.n_more, 5);
	assert_int_equal(scene->snapshot.n_more_untrusted, 5);
	(void)see_file(scene, "/run/netns/late", 50, 150);
	(void)see_process(scene, 200, 51, "rust", OWNER_HOST);
	(void)see(scene, SIGHTING_NSID, 60);
	pass(scene);
	assert_string_equal(outcome(scene), HOST "1 stranger other 0 0 | process 100\n"
						 "2 stranger other 1 0 | process 101\n"
						 "6 late host 50 150 late | file /run/netns/late\n"
						 "7 rust host 51 0 | process 200\n"
						 "8 nsid-60 unknown 60 0 | nsid only\n");
	assert_int_equal(scene->snapshot.n_more, 8);
	assert_int_equal(scene->snapshot.n_more_untrusted, 8);
	/* Whose it is may be known by memory alone. */
	look_away(scene);
	(void)see(scene, SIGHTING_NSID, 50);
	(void)see(scene, SIGHTING_NSID, 51);
	for (int32_t i = 0; i < 5; i++)
		(void)see(scene, SIGHTING_NSID, 70 + i);
	pass(scene);
	assert_string_equal(outcome(scene), HOST "6 nsid-50 host 50 150 | nsid only\n"
						 "7 rust host 51 0 | nsid only\n"
						 "9 nsid-70 unknown 70 0 | nsid only\n"
						 "10 nsid-71 unknown 71 0 | nsid only\n"
						 "11 nsid-72 unknown 72 0 | nsid only\n");
	assert_int_equal(scene->snapshot.n_more, 2);
	assert_int_equal(scene->snapshot.n_more_untrusted, 2);
}

static void test_rules_say_who_gives_way(void **state)
{
	struct scene *scene = *state;

	set_config(scene, "{\"rules\": ["
			  "{\"match\": {\"netns\": \"panel-*\"}, \"set\": {\"trust\": true}},"
			  "{\"match\": {\"netns\": \"rented-*\"}, \"set\": {\"trust\": false}}]}");
	scene->limit.max = 3;
	(void)see_process(scene, 100, 1, "stranger", OWNER_OTHER);
	(void)see_file(scene, "/run/netns/rented-1", 2, 102);
	pass(scene);
	see_file(scene, "/run/netns/panel-1", 3, 103)->owner = OWNER_OTHER;
	(void)see_file(scene, "/run/netns/game1", 4, 104);
	pass(scene);
	assert_string_equal(outcome(scene),
		HOST "3 game1 host 4 104 game1 | file /run/netns/game1\n"
		     "4 panel-1 other 3 103 panel-1 | file /run/netns/panel-1\n");
	assert_int_equal(scene->snapshot.n_more, 2);
	assert_int_equal(scene->snapshot.n_more_untrusted, 2);
	/* One that counts beyond the limit is another matter. */
	(void)see_file(scene, "/run/netns/game2", 5, 105);
	pass(scene);
	assert_int_equal(scene->snapshot.n_more, 3);
	assert_int_equal(scene->snapshot.n_more_untrusted, 2);
}

static void test_skipped_files_are_listed_up_to_a_limit(void **state)
{
	struct scene *scene = *state;

	for (int i = NETNS_SKIPPED_MAX + 44; i > 0; i--) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/run/netns/%03d", i);
		assert_int_equal(sightings_skip(&scene->sources[0], path, "no", false), 0);
	}
	pass(scene);
	assert_int_equal(scene->snapshot.n_skipped, NETNS_SKIPPED_MAX);
	assert_int_equal(scene->snapshot.n_skipped_more, 44);
	assert_string_equal(scene->snapshot.skipped[0].path, "/run/netns/045");
}

/* "ifindex address", … of those that are left. */
static void check_left(const struct netns_view *view, const char *expected)
{
	char text[128] = "";

	for (size_t i = 0; i < view->n_addresses; i++) {
		size_t length = strlen(text);

		(void)snprintf(text + length, sizeof(text) - length, "%u %s\n",
			view->addresses[i].ifindex, IP4_FORMAT(view->addresses[i].address));
	}
	assert_string_equal(text, expected);
}

static void test_addresses_of_newcomers_are_left_out(void **state)
{
	struct ipip_link before[] = { { .ifindex = 9 }, { .ifindex = 4 } },
			 after[] = { { .ifindex = 12 }, { .ifindex = 4 }, { .ifindex = 9 },
				 { .ifindex = 7 } };
	struct netns_address addresses[] = { { .ifindex = 12, .address = ip4_of("203.0.113.12") },
		{ .ifindex = 2, .address = ip4_of("192.0.2.1") },
		{ .ifindex = 9, .address = ip4_of("203.0.113.9") },
		{ .ifindex = 7, .address = ip4_of("203.0.113.7") } };
	struct netns_view view = { .links = before,
		.n_links = ELEMENTS_OF(before),
		.addresses = addresses,
		.n_addresses = ELEMENTS_OF(addresses) },
			  same = view, later = { .links = after, .n_links = ELEMENTS_OF(after) };

	(void)state;
	netns_view_leave_out_newcomers(&view, &same);
	assert_int_equal(view.n_addresses, ELEMENTS_OF(addresses));
	netns_view_leave_out_newcomers(&view, &later);
	check_left(&view, "2 192.0.2.1\n9 203.0.113.9\n");
	assert_int_equal(view.n_links, ELEMENTS_OF(before));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_but_the_host),
		TEST(test_each_once_with_all_names),
		TEST(test_order_does_not_depend_on_the_sources),
		TEST(test_owner),
		TEST(test_what_is_known_is_taken_over),
		TEST(test_a_label_outlives_its_process),
		TEST(test_a_number_of_another_is_no_acquaintance),
		TEST(test_unknown_is_not_absent),
		TEST(test_a_number_that_was_given_back_is_not_remembered),
		TEST(test_the_own_number_is_the_own_namespace),
		TEST(test_newcomers_do_not_push_out_the_old),
		TEST(test_strangers_give_way),
		TEST(test_rules_say_who_gives_way),
		TEST(test_skipped_files_are_listed_up_to_a_limit),
		TEST(test_addresses_of_newcomers_are_left_out),
	};

	return cmocka_run_group_tests_name("roster", tests, NULL, NULL);
}
