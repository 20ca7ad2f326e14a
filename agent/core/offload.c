/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/offload.h"
#include "agent/core/status.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

#define MEMORY_VERSION 1
#define MEMORY_MAX 1024 /* interfaces; more is no file of ours */

static const char *const policy_names[] = {
	[OFFLOAD_AUTO] = "auto",
	[OFFLOAD_ON] = "on",
	[OFFLOAD_OFF] = "off",
};

static const char *const reason_names[OFFLOAD_REASON_COUNT] = {
	[OFFLOAD_REASON_TURNED_OFF] = "turned-off",
	[OFFLOAD_REASON_ALREADY_OFF] = "already-off",
	[OFFLOAD_REASON_NO_FEATURE] = "no-feature",
	[OFFLOAD_REASON_KERNEL_CLEARS] = "kernel-clears",
	[OFFLOAD_REASON_POLICY_OFF] = "policy-off",
	[OFFLOAD_REASON_FIXED_ON] = "fixed-on",
	[OFFLOAD_REASON_FAILED] = "failed",
};

const char *offload_policy_name(enum offload_policy policy)
{
	return policy < ELEMENTS_OF(policy_names) ? policy_names[policy] : "?";
}

int offload_policy_parse(const char *name, enum offload_policy *ret)
{
	for (size_t i = 0; i < ELEMENTS_OF(policy_names); i++) {
		if (strcmp(name, policy_names[i]) == 0) {
			*ret = (enum offload_policy)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *offload_reason_name(enum offload_reason reason)
{
	return reason < OFFLOAD_REASON_COUNT ? reason_names[reason] : "?";
}

/* Not wanted by the policy: what we turned off goes back. */
static struct offload_decision stand_aside(enum offload_reason reason, bool ours)
{
	return (struct offload_decision){ ours ? OFFLOAD_GIVE_BACK : OFFLOAD_LEAVE, reason };
}

struct offload_decision offload_decide(enum offload_policy policy, bool kernel_clears,
	const struct offload_feature *feature, bool ours)
{
	if (policy == OFFLOAD_OFF)
		return stand_aside(OFFLOAD_REASON_POLICY_OFF, ours);
	if (policy == OFFLOAD_AUTO && kernel_clears)
		return stand_aside(OFFLOAD_REASON_KERNEL_CLEARS, ours);
	if (!feature->changeable)
		return (struct offload_decision){ OFFLOAD_LEAVE,
			feature->active ? OFFLOAD_REASON_FIXED_ON : OFFLOAD_REASON_NO_FEATURE };
	/* Wanted and not active: it would come by itself when what it needs does. */
	if (feature->wanted || feature->active)
		return (struct offload_decision){ OFFLOAD_TURN_OFF, OFFLOAD_REASON_TURNED_OFF };
	return (struct offload_decision){ OFFLOAD_LEAVE,
		ours ? OFFLOAD_REASON_TURNED_OFF : OFFLOAD_REASON_ALREADY_OFF };
}

bool offload_is_safe(enum offload_reason reason, bool kernel_clears)
{
	return kernel_clears ||
	       (reason != OFFLOAD_REASON_FIXED_ON && reason != OFFLOAD_REASON_FAILED);
}

void offload_memory_done(struct offload_memory *memory)
{
	free(memory->list);
	*memory = (struct offload_memory){ 0 };
}

const struct offload_record *offload_memory_find(
	const struct offload_memory *memory, uint64_t netns, uint32_t ifindex)
{
	for (size_t i = 0; i < memory->n; i++)
		if (memory->list[i].netns == netns && memory->list[i].ifindex == ifindex)
			return &memory->list[i];
	return NULL;
}

int offload_memory_add(struct offload_memory *memory, const struct offload_record *record)
{
	struct offload_record *slot;

	if (offload_memory_find(memory, record->netns, record->ifindex))
		return 0;
	slot = ARRAY_APPEND(memory->list, memory->n);
	if (!slot)
		return -ENOMEM;
	*slot = *record;
	memory->n++;
	return 0;
}

void offload_memory_remove(struct offload_memory *memory, uint64_t netns, uint32_t ifindex)
{
	size_t kept = 0;

	for (size_t i = 0; i < memory->n; i++)
		if (memory->list[i].netns != netns || memory->list[i].ifindex != ifindex)
			memory->list[kept++] = memory->list[i];
	memory->n = kept;
}

json_t *offload_memory_make(const struct offload_memory *memory)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < memory->n; i++) {
		const struct offload_record *record = &memory->list[i];

		if (json_array_append_new(array,
			    json_pack("{s:I, s:I, s:o, s:s}", "netns", (json_int_t)record->netns,
				    "ifindex", (json_int_t)record->ifindex, "ifname",
				    status_text(record->ifname), "feature", OFFLOAD_FEATURE)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return json_pack("{s:i, s:o}", "version", MEMORY_VERSION, "turned_off", array);
}

static int take_record(json_t *value, struct offload_memory *memory)
{
	struct offload_record record = { 0 };
	const char *ifname, *feature;
	json_int_t netns, ifindex;

	if (json_unpack(value, "{s:I, s:I, s:s, s:s}", "netns", &netns, "ifindex", &ifindex,
		    "ifname", &ifname, "feature", &feature) < 0 ||
		netns <= 0 || ifindex <= 0 || ifindex > INT32_MAX ||
		strcmp(feature, OFFLOAD_FEATURE) != 0)
		return -EBADMSG;
	record.netns = (uint64_t)netns;
	record.ifindex = (uint32_t)ifindex;
	strncpy(record.ifname, ifname, sizeof(record.ifname) - 1);
	return offload_memory_add(memory, &record);
}

int offload_memory_parse(const char *text, size_t size, struct offload_memory *ret)
{
	json_auto_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	_cleanup_(offload_memory_done) struct offload_memory memory = { 0 };
	json_t *array = json_object_get(root, "turned_off");

	if (json_integer_value(json_object_get(root, "version")) != MEMORY_VERSION ||
		!json_is_array(array) || json_array_size(array) > MEMORY_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < json_array_size(array); i++) {
		int r = take_record(json_array_get(array, i), &memory);

		if (r < 0)
			return r;
	}
	*ret = memory;
	memory = (struct offload_memory){ 0 };
	return 0;
}
