/* SPDX-License-Identifier: MIT */
/* detach beside a running agent: it takes the program off itself, and does not attach again. */
#include <string.h>
#include <unistd.h>

#include "agent/core/attachment.h"
#include "agent/guard.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/detach.h"
#include "tools/ctl/varlink.h"

#define FEATURES_TRIES 30 /* three times as long as the agent waits */
#define FEATURES_PAUSE_USEC (100 * 1000)

/* What the guard remembers, of this namespace. Nothing where it may not be read: then it is not said. */
static void read_features(struct offload_memory *ret)
{
	_cleanup_(offload_memory_done) struct offload_memory elsewhere = { 0 };
	_cleanup_close_ int directory = -1;

	*ret = (struct offload_memory){ 0 };
	if (agent_open_run_directory(&directory) < 0 || guard_read(directory, ret, &elsewhere) < 0)
		*ret = (struct offload_memory){ 0 };
}

static bool is_attached(const json_t *interface)
{
	return interface && strcmp(json_text(interface, "attachment"),
				    attachment_kind_name(ATTACHMENT_NONE)) != 0;
}

/* By what the agent answered before and after. */
static void note_interfaces(const struct ctl *ctl, const json_t *before, const json_t *after,
	struct detach_outcome *outcome)
{
	const json_t *interface;
	size_t i;

	json_array_foreach(json_object_get(before, "interfaces"), i, interface)
	{
		uint32_t ifindex = (uint32_t)json_number(interface, "ifindex");

		if (!is_attached(interface))
			continue;
		if (is_attached(agent_interface(after, ifindex)))
			ctl_note(ctl, "it is still attached to %s", json_text(interface, "name"));
		else
			detach_note_interface(
				ctl, outcome->detached, ifindex, json_text(interface, "name"));
	}
}

static void note_features(
	const struct ctl *ctl, const struct offload_memory *before, struct detach_outcome *outcome)
{
	_cleanup_(offload_memory_done) struct offload_memory after = { 0 };

	/* The agent gives them back when the queues of the interfaces are empty. */
	read_features(&after);
	for (int i = 0; after.n > 0 && i < FEATURES_TRIES; i++) {
		offload_memory_done(&after);
		(void)usleep(FEATURES_PAUSE_USEC);
		read_features(&after);
	}
	for (size_t i = 0; i < before->n; i++) {
		const struct offload_record *record = &before->list[i];

		if (!offload_memory_find(&after, record->netns, record->ifindex))
			detach_note_feature(
				ctl, outcome->restored, record->ifindex, record->ifname);
	}
}

int detach_by_agent(const struct ctl *ctl, struct detach_outcome *outcome)
{
	_cleanup_(offload_memory_done) struct offload_memory features = { 0 };
	_cleanup_(varlink_done) struct varlink varlink = VARLINK_NONE;
	json_auto_t *before = NULL, *answer = NULL, *after = NULL;
	int status;

	read_features(&features);
	status = varlink_open(ctl, &varlink);
	if (status == CTL_OK)
		status = varlink_call(ctl, &varlink, "GetStatus", json_object(), &before);
	if (status == CTL_OK)
		status = varlink_call(ctl, &varlink, "Detach", json_object(), &answer);
	if (status != CTL_OK)
		return status;
	outcome->stays_off = true;
	status = varlink_call(ctl, &varlink, "GetStatus", json_object(), &after);
	if (status != CTL_OK)
		return status;
	note_interfaces(
		ctl, json_object_get(before, "status"), json_object_get(after, "status"), outcome);
	note_features(ctl, &features, outcome);
	return json_is_true(json_object_get(answer, "complete")) ? CTL_OK : CTL_DEGRADED;
}
