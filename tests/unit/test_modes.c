/* SPDX-License-Identifier: MIT */
/* Modes given at run time, one after the other, to namespaces that are called otherwise in between. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/modes.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

/* Both times the same two namespaces, and a third one that comes. */
static const char before[] = "netns a unnamed label=game\n"
			     " tun0 203.0.113.1 10.0.0.1\n"
			     "netns b unnamed label=game\n"
			     " tun0 203.0.113.2 10.0.0.2\n";
static const char after[] = "netns a unnamed label=sidecar\n"
			    " tun0 203.0.113.1 10.0.0.1\n"
			    "netns b unnamed label=debug\n"
			    " tun0 203.0.113.2 10.0.0.2\n"
			    "netns c unnamed label=game\n"
			    " tun0 203.0.113.3 10.0.0.3\n";

struct scene {
	struct modes modes;
	struct snapshot snapshot;
	struct config config;
	struct tunnels tunnels;
	char directory[32];
};

static void go_to(struct scene *scene, const char *world)
{
	tunnels_done(&scene->tunnels);
	snapshot_done(&scene->snapshot);
	world_parse(world, &scene->snapshot);
	assert_int_equal(tunnels_make(&scene->snapshot, &scene->config, &scene->modes.overrides,
				 NULL, &scene->tunnels),
		0);
}

/* "tunnel direct": of each tunnel of that world. */
static const char *modes_of(struct scene *scene, const char *world)
{
	static char text[256];

	go_to(scene, world);
	text[0] = '\0';
	for (size_t i = 0; i < scene->tunnels.n; i++) {
		size_t n = strlen(text);

		(void)snprintf(text + n, sizeof(text) - n, "%s%s", i > 0 ? " " : "",
			maps_mode_name(scene->tunnels.list[i].policy.mode));
	}
	return text;
}

/* How many tunnels were meant, or -errno. */
static int say(struct scene *scene, const char *world, const char *name, const char *mode)
{
	enum maps_mode wanted = MAPS_MODE_DIRECT;
	size_t n;
	int r;

	go_to(scene, world);
	if (mode)
		assert_int_equal(maps_mode_parse(mode, &wanted), 0);
	r = modes_set(
		&scene->modes, &scene->tunnels, name, "tun0", mode ? &wanted : NULL, false, &n);
	return r < 0 ? r : (int)n;
}

static int set_up(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	size_t lost;

	if (!scene)
		return -1;
	(void)snprintf(scene->directory, sizeof(scene->directory), "/tmp/test-modes-XXXXXX");
	if (!mkdtemp(scene->directory))
		return -1;
	config_init(&scene->config);
	*state = scene;
	return modes_load(
		&scene->modes, open(scene->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), &lost);
}

static int tear_down(void **state)
{
	struct scene *scene = *state;

	(void)unlinkat(scene->modes.run_dir, "modes.json", 0);
	(void)close(scene->modes.run_dir);
	(void)rmdir(scene->directory);
	tunnels_done(&scene->tunnels);
	snapshot_done(&scene->snapshot);
	config_done(&scene->config);
	modes_done(&scene->modes);
	free(scene);
	return 0;
}

static void all_that_were_meant_keep_it(void **state)
{
	struct scene *scene = *state;

	assert_int_equal(say(scene, before, "game", "tunnel"), 2);
	assert_string_equal(modes_of(scene, before), "tunnel tunnel");
	assert_string_equal(modes_of(scene, after), "tunnel tunnel tunnel");
}

static void another_of_that_name_takes_it_from_nobody(void **state)
{
	struct scene *scene = *state;

	assert_int_equal(say(scene, before, "game", "tunnel"), 2);
	assert_int_equal(say(scene, after, "game", "direct"), 1);
	assert_string_equal(modes_of(scene, after), "tunnel tunnel direct");
	assert_int_equal(say(scene, after, "game", NULL), 1);
	assert_string_equal(modes_of(scene, after), "tunnel tunnel direct");
	/* Nor does it go with that name's return. */
	assert_string_equal(modes_of(scene, before), "tunnel tunnel");
}

static void who_is_called_otherwise_gives_back_his_own_only(void **state)
{
	struct scene *scene = *state;

	assert_int_equal(say(scene, before, "game", "tunnel"), 2);
	assert_int_equal(say(scene, after, "sidecar", NULL), 1);
	assert_string_equal(modes_of(scene, after), "direct tunnel tunnel");
	assert_int_equal(say(scene, after, "debug", "shadow"), 1);
	assert_string_equal(modes_of(scene, after), "direct shadow tunnel");
	assert_int_equal(scene->modes.overrides.n, 2);
	assert_int_equal(say(scene, after, "debug", NULL), 1);
	assert_int_equal(say(scene, after, "game", NULL), 1);
	assert_int_equal(scene->modes.overrides.n, 0);
}

/* As the next agent finds them, who knows nobody by what was given. */
static void start_anew(struct scene *scene)
{
	size_t lost;
	int dir = scene->modes.run_dir;

	modes_done(&scene->modes);
	assert_int_equal(modes_load(&scene->modes, dir, &lost), 0);
	assert_int_equal(lost, 0);
}

#define ODD                                                                                                \
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" \
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" \
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" \
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff.scope"

/* A tenant who calls himself otherwise takes his mode along, and nobody's else. */
static void a_name_that_is_no_text_loses_no_mode(void **state)
{
	static const char tenants[] = "netns a unnamed label=tenant.scope\n"
				      " tun0 203.0.113.1 10.0.0.1\n"
				      "netns b unnamed label=game\n"
				      " tun0 203.0.113.2 10.0.0.2\n";
	static const char renamed[] = "netns a unnamed label=" ODD "\n"
				      " tun0 203.0.113.1 10.0.0.1\n"
				      "netns b unnamed label=game\n"
				      " tun0 203.0.113.2 10.0.0.2\n"
				      "netns c unnamed label=tenant.scope\n"
				      " tun0 203.0.113.3 10.0.0.3\n";
	struct scene *scene = *state;

	assert_int_equal(say(scene, tenants, "tenant.scope", "shadow"), 1);
	assert_int_equal(say(scene, tenants, "game", "tunnel"), 1);
	assert_int_equal(say(scene, renamed, "tenant.scope", "direct"), 1);
	assert_string_equal(modes_of(scene, renamed), "shadow tunnel direct");
	start_anew(scene);
	assert_string_equal(modes_of(scene, renamed), "shadow tunnel direct");
}

/* What the next agent would not read is not written. */
static void there_is_a_bound_to_the_file(void **state)
{
	struct scene *scene = *state;
	char netns[OVERRIDE_NAME_MAX + 1];

	memset(netns, '\x1b', OVERRIDE_NAME_MAX);
	netns[OVERRIDE_NAME_MAX] = '\0';
	for (int i = 0; i < OVERRIDES_MAX - 1; i++) {
		(void)snprintf(netns + OVERRIDE_NAME_MAX - 4, 5, "%04d", i);
		assert_int_equal(overrides_set(&scene->modes.overrides, netns, "tun0",
					 MAPS_MODE_TUNNEL, false),
			0);
	}
	assert_int_equal(say(scene, before, "game", "tunnel"), -E2BIG);
	overrides_done(&scene->modes.overrides);
	assert_int_equal(say(scene, before, "game", "tunnel"), 2);
	start_anew(scene);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_that_were_meant_keep_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			another_of_that_name_takes_it_from_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			who_is_called_otherwise_gives_back_his_own_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_name_that_is_no_text_loses_no_mode, set_up, tear_down),
		cmocka_unit_test_setup_teardown(there_is_a_bound_to_the_file, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("modes", tests, NULL, NULL);
}
