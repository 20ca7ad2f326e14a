/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "agent/core/proc_text.h"
#include "agent/util/array.h"
#include "tests/unit/unit.h"

static void test_links(void **state)
{
	static const struct {
		const char *text;
		uint32_t pid; /* 0: none */
	} links[] = {
		{ "/proc/123/ns/net", 123 },
		{ "/proc/1/ns/net", 1 },
		{ "/proc/4194304/ns/net", 4194304 },
		{ "/proc/123/task/124/ns/net", 124 },
		{ "/proc/self/ns/net", 0 },
		{ "/proc/123/ns/mnt", 0 },
		{ "/proc/123/ns/net2", 0 },
		{ "/proc/123/ns/net/", 0 },
		{ "/proc/0123/ns/net", 0 },
		{ "/proc/0/ns/net", 0 },
		{ "/proc/-1/ns/net", 0 },
		{ "/proc/+1/ns/net", 0 },
		{ "/proc/ 1/ns/net", 0 },
		{ "/proc/99999999999999999999/ns/net", 0 },
		{ "/proc/2147483648/ns/net", 0 },
		{ "/proc/1/task//ns/net", 0 },
		{ "/proc//ns/net", 0 },
		{ "/proc/1", 0 },
		{ "net:[4026532008]", 0 },
		{ "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(links); i++) {
		uint32_t pid = 0;
		int r = proc_parse_link(links[i].text, &pid);

		if (pid != links[i].pid || r != (links[i].pid ? 0 : -EINVAL))
			fail_msg("'%s': %d, %u", links[i].text, r, pid);
	}
}

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
	const char *text;
	const char *label; /* NULL: none */
} cgroups[] = {
	/* Units. */
	{ "0::/system.slice/minecraft.service\n", "minecraft.service" },
	{ "0::/system.slice/system-game.slice/game@csgo.service\n", "game@csgo.service" },
	{ "0::/user.slice/user-1000.slice/user@1000.service/app.slice/game.service\n",
		"game.service" },
	{ "0::/system.slice/wings.service/payload\n", "wings.service" },
	{ "0::/machine.slice/machine-a\\x2db.scope\n", "machine-a\\x2db.scope" },
	{ "0::/system.slice/a:b.service\n", "a:b.service" },
	/* Containers, by Docker, containerd, CRI-O and Podman; with systemd or without. */
	{ "0::/system.slice/docker-" ID ".scope\n", "docker-0123456789ab" },
	{ "0::/docker/" ID "\n", "0123456789ab" },
	{ "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podabc.slice/"
	  "cri-containerd-" ID ".scope\n",
		"cri-containerd-0123456789ab" },
	{ "0::/machine.slice/libpod-" ID ".scope/container\n", "libpod-0123456789ab" },
	{ "0::/system.slice/docker-" ID ".scope/system.slice/inner.service\n",
		"docker-0123456789ab" },
	/* cgroup v1: systemd's hierarchy names the unit. */
	{ "11:memory:/\n1:name=systemd:/system.slice/rust.service\n0::/system.slice/rust.service\n",
		"rust.service" },
	{ "4:memory:/docker/" ID "\n0::/\n", "0123456789ab" },
	/* No name of anybody. */
	{ "0::/\n", NULL },
	{ "0::/user.slice/user-0.slice/session-3.scope\n", NULL },
	{ "0::/init.scope\n", NULL },
	{ "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", NULL },
	{ "0::/system.slice\n", NULL },
	{ "0::/system.slice/.service\n", NULL },
	{ "0::/deadbeef\n", NULL },
	{ "0::/x" ID "\n", NULL },
	/* Torn. */
	{ "", NULL },
	{ "\n\n", NULL },
	{ "0:", NULL },
	{ "0::", NULL },
	{ "a.service", NULL },
	{ "0::/system.slice/torn.service", "torn.service" },
};

static void test_cgroups(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cgroups); i++) {
		char label[PROC_LABEL_MAX] = "untouched";
		int r = proc_label_from_cgroup(cgroups[i].text, label);
		const char *expected = cgroups[i].label ? cgroups[i].label : "untouched";

		if (strcmp(label, expected) != 0 || r != (cgroups[i].label ? 0 : -ENOENT))
			fail_msg("'%s': %d, '%s'", cgroups[i].text, r, label);
	}
}

static void test_long_names_are_cut(void **state)
{
	char text[2 * PROC_LABEL_MAX + 32] = "0::/", label[PROC_LABEL_MAX];

	(void)state;
	memset(text + 4, 'x', 2 * PROC_LABEL_MAX);
	memcpy(text + 4 + 2 * PROC_LABEL_MAX, ".service\n", 10);
	assert_int_equal(proc_label_from_cgroup(text, label), 0);
	assert_int_equal(strlen(label), PROC_LABEL_MAX - 1);
	assert_int_equal(proc_label_from_comm(text, label), 0);
	assert_int_equal(strlen(label), PROC_LABEL_MAX - 1);
}

static void test_commands(void **state)
{
	char label[PROC_LABEL_MAX] = "untouched";

	(void)state;
	assert_int_equal(proc_label_from_comm("\n", label), -ENOENT);
	assert_int_equal(proc_label_from_comm("", label), -ENOENT);
	assert_string_equal(label, "untouched");
	assert_int_equal(proc_label_from_comm("srcds_linux\n", label), 0);
	assert_string_equal(label, "srcds_linux");
	assert_int_equal(proc_label_from_comm("a b\nc\n", label), 0);
	assert_string_equal(label, "a b");
}

static void test_uid_maps(void **state)
{
	static const char host[] = "         0          0 4294967295\n";

	(void)state;
	assert_true(proc_same_uid_map(host, host));
	assert_false(proc_same_uid_map(host, "         0       1000          1\n"));
	assert_false(proc_same_uid_map(host, ""));
	assert_false(proc_same_uid_map("", ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_cgroups),
		cmocka_unit_test(test_long_names_are_cut),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_uid_maps),
	};

	return cmocka_run_group_tests_name("proc_text", tests, NULL, NULL);
}
