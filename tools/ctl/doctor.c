/* SPDX-License-Identifier: MIT */
/* doctor: gathers the facts, has them checked (checks.c), and prints what came of it. */
#include <bpf/bpf.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/config.h"
#include "agent/kern/dataplane.h"
#include "agent/kern/ethtool.h"
#include "agent/kern/strip.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "tools/ctl/attached.h"
#include "tools/ctl/checks.h"
#include "tools/ctl/output.h"

#define DOCTOR_SCHEMA_VERSION 1 /* schema/ctl-doctor.schema.json */

static struct fact read_number(const char *path)
{
	_cleanup_free_ char *text = NULL;
	struct fact fact = { 0 };
	size_t size;

	fact.error = file_read(path, 64, &text, &size);
	if (fact.error == 0)
		fact.value = strtoll(text, NULL, 10);
	return fact;
}

/* Seconds between two passes of the agent; the usual where its status does not say. */
static void name_programs(struct fact_interface *interface, const uint32_t *ids)
{
	for (size_t i = 0; i < interface->n_programs; i++) {
		struct bpf_prog_info info = { 0 };
		uint32_t size = sizeof(info);
		_cleanup_close_ int fd = bpf_prog_get_fd_by_id(ids[i]);

		interface->programs[i].id = ids[i];
		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0)
			(void)snprintf(interface->programs[i].name,
				sizeof(interface->programs[i].name), "%.15s", info.name);
	}
}

static void read_driver(struct fact_interface *interface)
{
	char path[64 + IFNAMSIZ], target[256];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/sys/class/net/%s/device/driver", interface->name);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return;
	target[n] = '\0';
	(void)snprintf(interface->driver, sizeof(interface->driver), "%.31s", basename(target));
}

static void gather_interface(const json_t *status, struct fact_interface *interface)
{
	uint32_t ids[NET_PROGRAMS_MAX], n = 0, mtu = 0;
	char path[64 + IFNAMSIZ];

	*interface = (struct fact_interface){ .status = status,
		.ifindex = (uint32_t)json_number(status, "ifindex") };
	(void)snprintf(
		interface->name, sizeof(interface->name), "%.15s", json_text(status, "name"));
	interface->attached = attached_check(status, interface->ifindex);
	if (strchr(interface->name, '/')) { /* no interface's name: a file's that is no status */
		interface->forwarding.error = -EINVAL;
	} else {
		(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/forwarding",
			interface->name);
		interface->forwarding = read_number(path);
		read_driver(interface);
	}
	interface->mtu.error = net_mtu(NSID_OWN, interface->ifindex, &mtu);
	interface->mtu.value = mtu;
	interface->offload_error =
		ethtool_get_feature(interface->ifindex, OFFLOAD_FEATURE, &interface->offload);
	interface->programs_error = net_tcx_programs(interface->ifindex, ids, &n);
	interface->n_programs = interface->programs_error == 0 ? n : 0;
	name_programs(interface, ids);
	interface->filters_error =
		net_filters(interface->ifindex, &interface->filters, &interface->n_filters);
}

static int gather_interfaces(struct facts *facts)
{
	const json_t *interfaces = json_object_get(facts->view->document, "interfaces"), *status;
	size_t i;

	facts->interfaces = calloc(json_array_size(interfaces) + 1, sizeof(*facts->interfaces));
	if (!facts->interfaces)
		return -ENOMEM;
	json_array_foreach((json_t *)interfaces, i, status)
		gather_interface(status, &facts->interfaces[facts->n_interfaces++]);
	return 0;
}

/* The id by which its namespace is known here. 0, or -ENOENT. */
static int nsid_of(const json_t *document, const json_t *tunnel, int32_t *ret)
{
	const json_t *netns = agent_netns(document, json_text(tunnel, "netns"));
	const json_t *nsid = json_object_get(netns, "nsid");

	if (!netns)
		return -ENOENT;
	*ret = json_is_integer(nsid) ? (int32_t)json_integer_value(nsid) : NSID_OWN;
	return 0;
}

#define TUNNELS_MAX 1000 /* whose MTU is asked for; one bad set-up mostly shows in the first */

static int gather_tunnels(struct facts *facts)
{
	const json_t *tunnels = json_object_get(facts->view->document, "tunnels"), *tunnel;
	size_t i;

	facts->tunnels = calloc(json_array_size(tunnels) + 1, sizeof(*facts->tunnels));
	if (!facts->tunnels)
		return -ENOMEM;
	json_array_foreach((json_t *)tunnels, i, tunnel)
	{
		struct fact_tunnel *fact = &facts->tunnels[facts->n_tunnels];
		uint32_t mtu = 0;
		int32_t nsid;

		if (strcmp(json_text(tunnel, "state"), "mapped") != 0 ||
			facts->n_tunnels == TUNNELS_MAX)
			continue;
		fact->status = tunnel;
		fact->mtu.error = nsid_of(facts->view->document, tunnel, &nsid);
		if (fact->mtu.error == 0)
			fact->mtu.error =
				net_mtu(nsid, (uint32_t)json_number(tunnel, "ifindex"), &mtu);
		fact->mtu.value = mtu;
		facts->n_tunnels++;
	}
	return 0;
}

/* What nftables holds, by its own tool: iptables' rules are among them, unless those of the old kind. */
static int gather_nat(json_t **ret)
{
	FILE *nft = popen(
		"PATH=/usr/sbin:/sbin:/usr/bin:/bin exec nft -j list ruleset 2>/dev/null", "re");
	json_t *ruleset;
	int status;

	if (!nft)
		return -errno;
	ruleset = json_loadf(nft, 0, NULL);
	status = pclose(nft);
	if (status != 0 || !json_is_object(ruleset)) {
		json_decref(ruleset);
		if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 127)
			return -ENOENT;
		return geteuid() == 0 ? -EIO : -EPERM;
	}
	*ret = ruleset;
	return 0;
}

static int gather(struct facts *facts)
{
	int own_netns, r;

	facts->now = time(NULL);
	facts->resync_s = agent_resync_interval(facts->view->document);
	if (geteuid() == 0)
		facts->clears_mark.value = strip_clears_mark(strip_flags());
	else
		facts->clears_mark.error = -EPERM;
	facts->jit = read_number("/proc/sys/net/core/bpf_jit_enable");
	facts->bpffs_error = live_check_bpffs();
	own_netns = agent_is_of_netns(facts->view->document);
	facts->own_netns = (struct fact){ .value = own_netns == 1,
		.error = own_netns < 0 && own_netns != -ENOENT ? own_netns : 0 };
	facts->nat_error = gather_nat(&facts->nat);
	r = gather_interfaces(facts);
	return r < 0 ? r : gather_tunnels(facts);
}

static int print(const struct ctl *ctl, const struct findings *findings)
{
	bool healthy =
		!findings_have(findings, RESULT_FAIL) && !findings_have(findings, RESULT_WARN);
	int status = CTL_OK;

	if (findings->failed)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (ctl->json)
		status = ctl_print_json(ctl,
			json_pack("{s:i, s:b, s:o}", "schema_version", DOCTOR_SCHEMA_VERSION,
				"healthy", healthy, "checks", findings_json(findings, "name")));
	else if (!ctl->brief)
		findings_print(findings);
	else if (findings_print_brief(findings) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	return status != CTL_OK ? status : healthy ? CTL_OK : CTL_DEGRADED;
}

static int run_doctor(const struct ctl *ctl)
{
	_cleanup_(agent_view_done) struct agent_view view = { 0 };
	_cleanup_(live_done) struct live live = LIVE_NONE;
	_cleanup_(findings_done) struct findings findings = { 0 };
	_cleanup_(facts_done) struct facts facts = { .view = &view, .live = &live };
	struct utsname uts;

	facts.kernel = uname(&uts) == 0 ? uts.release : "?";
	facts.live_error = live_read(&live);
	if (facts.live_error == 0)
		facts.live_error = live_count(&live);
	if (agent_read(ctl, &view) < 0 || gather(&facts) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	checks_run(&facts, &findings);
	return print(ctl, &findings);
}

const struct ctl_command ctl_doctor_command = {
	.name = "doctor",
	.summary = "what is wrong with this host, and what to do",
	.help = "Checks the kernel, the pins, the agent, the interfaces, the tunnels and what\n"
		"others do to their packets. Each check gives a result, its reason and a remedy.\n"
		"It changes nothing. A check that cannot look says \"unknown\"; most is seen by\n"
		"root, in the agent's network namespace.\n"
		"\n"
		"Exit status: 0 when no check says \"warn\" or \"fail\", else 4.\n",
	.run = run_doctor,
};
