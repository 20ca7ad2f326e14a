/* SPDX-License-Identifier: MIT */
/* What doctor makes of facts that a test machine does not have: drivers, kernels, others on the hook. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "tools/ctl/checks.h"

/* A host on which all is well. */
struct host {
	struct agent_view view;
	struct live live;
	struct fact_interface interface;
	struct fact_tunnel tunnel;
	struct facts facts;
	struct findings findings;
};

static void host_init(struct host *host)
{
	*host = (struct host){ .live = LIVE_NONE };
	host->view.life = AGENT_RUNNING;
	host->view.written_at = 1000000000;
	host->view.document = json_pack(
		"{s:{s:s, s:s, s:s, s:[]}, s:[{s:s, s:i, s:s, s:i, s:s, s:{s:s}}], s:[{s:s, s:s, s:s}], "
		"s:[], s:{}}",
		"agent", "started_at", "2001-09-09T01:46:40Z", "synced_at", "2001-09-09T01:46:40Z",
		"state", "ok", "problems", "interfaces", "name", "eth0", "ifindex", 2, "attachment",
		"tcx", "program_id", 42, "next_hop", "shortcut", "offload_guard", "reason",
		"no-feature", "tunnels", "netns", "game1", "ifname", "tun0", "state", "mapped",
		"namespaces", "map");
	assert_non_null(host->view.document);
	host->live.maps.max_rows = 100;
	host->interface = (struct fact_interface){
		.status = json_array_get(json_object_get(host->view.document, "interfaces"), 0),
		.ifindex = 2,
		.name = "eth0",
		.forwarding.value = 1,
		.mtu.value = 1500,
		.programs[0].id = 42,
		.n_programs = 1
	};
	host->tunnel = (struct fact_tunnel){
		.status = json_array_get(json_object_get(host->view.document, "tunnels"), 0),
		.mtu.value = 1480
	};
	host->facts = (struct facts){ .view = &host->view,
		.now = 1000000005,
		.resync_s = 30,
		.kernel = "6.12.95-amd64",
		.jit.value = 1,
		.live = &host->live,
		.own_netns.value = 1,
		.interfaces = &host->interface,
		.n_interfaces = 1,
		.tunnels = &host->tunnel,
		.n_tunnels = 1 };
}

static void host_done(struct host *host)
{
	findings_done(&host->findings);
	json_decref(host->view.document);
}

/* What one check says now; each name comes once on this host. */
static enum result ask(struct host *host, const char *name, const char *words)
{
	enum result result = RESULT_UNKNOWN;
	size_t n = 0;

	findings_done(&host->findings);
	checks_run(&host->facts, &host->findings);
	assert_false(host->findings.failed);
	for (size_t i = 0; i < host->findings.n; i++) {
		if (strcmp(host->findings.list[i].name, name) != 0)
			continue;
		n++;
		result = host->findings.list[i].result;
		if (!strstr(host->findings.list[i].text, words))
			fail_msg("%s: '%s' is not in '%s'", name, words,
				host->findings.list[i].text);
	}
	assert_int_equal(n, 1);
	return result;
}

static void test_all_is_well(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	assert_int_equal(ask(&host, "kernel", "TCX"), RESULT_OK);
	for (size_t i = 0; i < host.findings.n; i++)
		if (host.findings.list[i].result == RESULT_WARN ||
			host.findings.list[i].result == RESULT_FAIL)
			fail_msg("%s: %s", host.findings.list[i].name, host.findings.list[i].text);
	host_done(&host);
}

static void test_kernels(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	host.facts.kernel = "5.10.0-46-amd64";
	assert_int_equal(ask(&host, "kernel", "clsact"), RESULT_OK);
	host.facts.kernel = "5.9.1";
	assert_int_equal(ask(&host, "kernel", "older than 5.10"), RESULT_FAIL);
	host.facts.kernel = "4.19";
	assert_int_equal(ask(&host, "kernel", "older"), RESULT_FAIL);
	host.facts.kernel = "mystery";
	assert_int_equal(ask(&host, "kernel", "mystery"), RESULT_UNKNOWN);
	host.facts.kernel = "7.3.4";
	host.facts.clears_mark.value = 1;
	assert_int_equal(ask(&host, "kernel", "clears the tunnel's mark"), RESULT_OK);
	host_done(&host);
}

static void test_jit(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	host.facts.jit.value = 0;
	assert_int_equal(ask(&host, "bpf-jit", "off"), RESULT_WARN);
	host.facts.jit.error = -ENOENT;
	assert_int_equal(ask(&host, "bpf-jit", "cannot be read"), RESULT_UNKNOWN);
	host_done(&host);
}

static void test_others_in_tcx(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	host.interface.n_programs = 2;
	host.interface.programs[1] = (struct fact_program){ 43, "cilium" };
	assert_int_equal(ask(&host, "hook-order", "program 43 (cilium) comes after"), RESULT_NOTE);
	host.interface.programs[0] = (struct fact_program){ 43, "cilium" };
	host.interface.programs[1] = (struct fact_program){ 42, "direct" };
	assert_int_equal(ask(&host, "hook-order", "program 43 (cilium) is before"), RESULT_WARN);
	host.interface.n_programs = 1;
	assert_int_equal(ask(&host, "hook-order", "not there"), RESULT_UNKNOWN);
	host.interface.programs_error = -EPERM;
	assert_int_equal(ask(&host, "hook-order", "cannot be looked at"), RESULT_UNKNOWN);
	host_done(&host);
}

static void test_drivers_that_look_at_the_mark(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	(void)strcpy(host.interface.driver, "i40e");
	assert_int_equal(ask(&host, "offloads", "driver i40e"), RESULT_WARN);
	host.facts.clears_mark.value = 1;
	assert_int_equal(ask(&host, "offloads", "clears"), RESULT_OK);
	host.facts.clears_mark = (struct fact){ .error = -EPERM, .value = 1 };
	assert_int_equal(ask(&host, "offloads", "driver i40e"), RESULT_WARN);
	(void)strcpy(host.interface.driver, "virtio_net");
	assert_int_equal(ask(&host, "offloads", "is off"), RESULT_OK);
	host.interface.offload.active = true;
	assert_int_equal(ask(&host, "offloads", "is on"), RESULT_FAIL);
	host_done(&host);
}

static void test_mtu_at_the_edge(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	assert_int_equal(ask(&host, "mtu", "1480"), RESULT_OK);
	host.tunnel.mtu.value = 1481;
	assert_int_equal(ask(&host, "mtu", "game1 tun0 with 1481"), RESULT_WARN);
	host.tunnel.mtu.error = -ENODEV;
	assert_int_equal(ask(&host, "mtu", "1 of 1 tunnels is not known"), RESULT_UNKNOWN);
	host.interface.mtu.error = -ENODEV;
	assert_int_equal(ask(&host, "mtu", "no MTU"), RESULT_UNKNOWN);
	host_done(&host);
}

static void test_ages_at_the_edge(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	host.facts.now = 1000000000 + 3 * 30 + 10;
	assert_int_equal(ask(&host, "status", "everything was read"), RESULT_OK);
	host.facts.now++;
	assert_int_equal(ask(&host, "status", "stale"), RESULT_WARN);
	host.facts.now = 1000000000 - 2;
	assert_int_equal(ask(&host, "clock", "agrees"), RESULT_OK);
	host.facts.now--;
	assert_int_equal(ask(&host, "clock", "of the future"), RESULT_WARN);
	host_done(&host);
}

static void test_room_at_the_edge(void **state)
{
	struct row rows[80] = { 0 };
	struct slot_counters counters[80] = { 0 };
	struct host host;

	(void)state;
	host_init(&host);
	host.live.rows = (struct rows){ rows, 79 };
	host.live.counters = counters;
	assert_int_equal(
		ask(&host, "map-room", "79 remotes and 0 inner sources, room for 100"), RESULT_OK);
	host.live.rows.n = 80;
	assert_int_equal(ask(&host, "map-room", "nearly full: 80 remotes"), RESULT_WARN);
	/* The two maps fill by themselves. */
	for (size_t i = 0; i < 40; i++)
		rows[i].map = ROW_SOURCES;
	assert_int_equal(ask(&host, "map-room", "40 remotes and 40 inner sources"), RESULT_OK);
	host_done(&host);
}

static void set_rule(struct host *host, const char *rule)
{
	json_t *ruleset = json_pack("{s:[{s:{s:{s:s}}}, {s:o}]}", "nftables", "metainfo", "x", "y",
		"z", "rule", json_loads(rule, 0, NULL));

	assert_non_null(ruleset);
	json_decref(host->facts.nat);
	host->facts.nat = ruleset;
}

#define RULE(family, chain, statement)                                                             \
	"{\"family\": \"" family "\", \"table\": \"nat\", \"chain\": \"" chain                     \
	"\", \"expr\": [{\"counter\": null}, " statement "]}"
#define TARGET(name) "{\"xt\": {\"type\": \"target\", \"name\": \"" name "\"}}"

static void test_rules_that_rewrite_sources(void **state)
{
	static const char *const rewriting[] = {
		RULE("ip", "post", "{\"masquerade\": null}"),
		RULE("inet", "post", "{\"snat\": {\"addr\": \"192.0.2.1\"}}"),
		RULE("ip", "raw",
			"{\"mangle\": {\"key\": {\"payload\": {\"protocol\": \"ip\", \"field\": \"saddr\"}}, "
			"\"value\": \"192.0.2.1\"}}"),
		RULE("ip", "POSTROUTING", TARGET("MASQUERADE")),
		RULE("ip", "DOCKER", TARGET("SNAT")),
		RULE("ip", "POSTROUTING", TARGET("NETMAP")),
	};
	static const char *const others[] = {
		RULE("ip6", "POSTROUTING", TARGET("MASQUERADE")),
		RULE("ip6", "post", "{\"masquerade\": null}"),
		RULE("ip", "PREROUTING", TARGET("NETMAP")),
		RULE("ip", "OUTPUT", TARGET("NETMAP")),
		RULE("ip", "PREROUTING", TARGET("DNAT")),
		RULE("ip", "FORWARD", "{\"xt\": {\"type\": \"match\", \"name\": \"conntrack\"}}"),
		RULE("ip", "raw",
			"{\"mangle\": {\"key\": {\"payload\": {\"protocol\": \"ip\", \"field\": \"daddr\"}}, "
			"\"value\": \"192.0.2.1\"}}"),
	};
	struct host host;

	(void)state;
	host_init(&host);
	for (size_t i = 0; i < sizeof(rewriting) / sizeof(rewriting[0]); i++) {
		set_rule(&host, rewriting[i]);
		assert_int_equal(ask(&host, "nat", "1 rule rewrites"), RESULT_NOTE);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		set_rule(&host, others[i]);
		assert_int_equal(ask(&host, "nat", "no nftables rule"), RESULT_OK);
	}
	json_decref(host.facts.nat);
	host_done(&host);
}

/* Old versions of nft have null for all of iptables. */
static void test_targets_that_have_no_name(void **state)
{
	struct host host;

	(void)state;
	host_init(&host);
	set_rule(&host, RULE("ip", "POSTROUTING", "{\"xt\": null}"));
	assert_int_equal(ask(&host, "nat", "1 rule has"), RESULT_UNKNOWN);
	set_rule(&host, RULE("ip", "POSTROUTING", TARGET("")));
	assert_int_equal(ask(&host, "nat", "in ip nat, chain POSTROUTING"), RESULT_UNKNOWN);
	set_rule(&host, RULE("ip", "POSTROUTING", "{\"xt\": null}, {\"masquerade\": null}"));
	assert_int_equal(ask(&host, "nat", "1 rule rewrites"), RESULT_NOTE);
	json_decref(host.facts.nat);
	host_done(&host);
}

/* What cannot be looked at is never "ok". */
static void test_nothing_is_known(void **state)
{
	static const char *const others[] = { "kernel", "bpffs", "source-address" };
	struct agent_view view = { .life = AGENT_UNKNOWN, .error = -EACCES };
	struct live live = LIVE_NONE;
	struct facts facts = { .view = &view,
		.live = &live,
		.kernel = "6.1",
		.jit.error = -EACCES,
		.live_error = -EACCES,
		.clears_mark.error = -EPERM,
		.own_netns.error = -EACCES,
		.nat_error = -EPERM };
	struct findings findings = { 0 };

	(void)state;
	checks_run(&facts, &findings);
	for (size_t i = 0; i < findings.n; i++) {
		bool other = false;

		for (size_t j = 0; j < sizeof(others) / sizeof(others[0]); j++)
			other = other || strcmp(findings.list[i].name, others[j]) == 0;
		if (!other && findings.list[i].result != RESULT_UNKNOWN)
			fail_msg("%s: %s", findings.list[i].name, findings.list[i].text);
	}
	assert_true(findings.n > 15);
	findings_done(&findings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_is_well),
		cmocka_unit_test(test_kernels),
		cmocka_unit_test(test_jit),
		cmocka_unit_test(test_others_in_tcx),
		cmocka_unit_test(test_drivers_that_look_at_the_mark),
		cmocka_unit_test(test_mtu_at_the_edge),
		cmocka_unit_test(test_ages_at_the_edge),
		cmocka_unit_test(test_room_at_the_edge),
		cmocka_unit_test(test_rules_that_rewrite_sources),
		cmocka_unit_test(test_targets_that_have_no_name),
		cmocka_unit_test(test_nothing_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
