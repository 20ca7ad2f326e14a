/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guard.h"
#include "agent/kern/ethtool.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"

#define FILE_SIZE_MAX (256 * 1024)

static int own_netns(uint64_t *ret)
{
	struct stat st;

	if (stat("/proc/self/ns/net", &st) < 0)
		return -errno;
	*ret = st.st_ino;
	return 0;
}

/* A file that cannot be understood says nothing: what it stood for stays off. */
static int read_memory(int directory, struct offload_memory *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	r = file_read_at(directory, GUARD_FILE, FILE_SIZE_MAX, &text, &size);
	if (r == 0)
		r = offload_memory_parse(text, size, ret);
	if (r == -ENOENT || r == -EBADMSG) {
		*ret = (struct offload_memory){ 0 };
		return 0;
	}
	return r;
}

static int write_memory(int directory, const struct offload_memory *memory)
{
	_cleanup_free_ char *text = NULL;
	json_t *document;

	if (memory->n == 0)
		return unlinkat(directory, GUARD_FILE, 0) < 0 && errno != ENOENT ? -errno : 0;
	document = offload_memory_make(memory);
	text = document ? json_dumps(document, JSON_INDENT(1)) : NULL;
	json_decref(document);
	return text ? file_replace(directory, GUARD_FILE, text, strlen(text)) : -ENOMEM;
}

/* Remembers first: killed in between, we give back what was never taken. */
static int turn_off(
	int directory, struct offload_memory *memory, const struct offload_record *record)
{
	int r;

	r = offload_memory_add(memory, record);
	if (r < 0)
		return r;
	r = write_memory(directory, memory);
	if (r < 0)
		return r;
	/* It stays remembered if this fails, for it may have done half of it. */
	return ethtool_set_feature(record->ifindex, OFFLOAD_FEATURE, false);
}

static int guard_try(const struct guard *guard, enum offload_policy policy,
	const struct offload_record *record, struct guarded *ret)
{
	_cleanup_(offload_memory_done) struct offload_memory memory = { 0 };
	struct offload_feature feature;
	struct offload_decision decision;
	bool ours;
	int r;

	r = ethtool_get_feature(record->ifindex, OFFLOAD_FEATURE, &feature);
	if (r < 0)
		return r;
	r = guard->directory < 0 ? 0 : read_memory(guard->directory, &memory);
	if (r < 0)
		return r;
	ours = offload_memory_find(&memory, record->netns, record->ifindex) != NULL;
	decision = offload_decide(policy, guard->kernel_clears, &feature, ours);
	ret->view.reason = decision.reason;
	ret->give_back = decision.verb == OFFLOAD_GIVE_BACK;
	if (decision.verb != OFFLOAD_TURN_OFF)
		return 0;
	if (guard->directory >= 0)
		r = turn_off(guard->directory, &memory, record);
	ret->turned_off = r == 0;
	ret->again = r == 0 && ours;
	return r;
}

void guard_interface(const struct guard *guard, enum offload_policy policy, uint32_t ifindex,
	const char *ifname, struct guarded *ret)
{
	struct offload_record record = { .ifindex = ifindex };
	int r;

	*ret = (struct guarded){ .view = { .known = true, .policy = policy } };
	strncpy(record.ifname, ifname, sizeof(record.ifname) - 1);
	r = own_netns(&record.netns);
	if (r == 0)
		r = guard_try(guard, policy, &record, ret);
	if (r < 0 && policy == OFFLOAD_OFF) {
		ret->view.reason = OFFLOAD_REASON_POLICY_OFF; /* and nothing of it is needed */
	} else if (r < 0) {
		ret->view.reason = OFFLOAD_REASON_FAILED;
		ret->error = r;
	}
}

int guard_give_back(int directory, uint32_t ifindex)
{
	_cleanup_(offload_memory_done) struct offload_memory memory = { 0 };
	uint64_t netns = 0;
	int r, turned_on;

	r = own_netns(&netns);
	if (r < 0)
		return r;
	r = read_memory(directory, &memory);
	if (r < 0)
		return r;
	if (!offload_memory_find(&memory, netns, ifindex))
		return 0;
	turned_on = ethtool_set_feature(ifindex, OFFLOAD_FEATURE, true);
	/* Gone, or without the feature by now: nothing to give it back to. */
	if (turned_on < 0 && turned_on != -ENODEV && turned_on != -EOPNOTSUPP)
		return turned_on;
	offload_memory_remove(&memory, netns, ifindex);
	r = write_memory(directory, &memory);
	return r < 0 ? r : turned_on == 0;
}

int guard_read(int directory, struct offload_memory *ret_here, struct offload_memory *ret_elsewhere)
{
	_cleanup_(offload_memory_done) struct offload_memory memory = { 0 }, here = { 0 },
							     elsewhere = { 0 };
	uint64_t netns = 0;
	int r;

	r = own_netns(&netns);
	if (r < 0)
		return r;
	r = read_memory(directory, &memory);
	for (size_t i = 0; r == 0 && i < memory.n; i++)
		r = offload_memory_add(
			memory.list[i].netns == netns ? &here : &elsewhere, &memory.list[i]);
	if (r < 0)
		return r;
	*ret_here = here;
	*ret_elsewhere = elsewhere;
	here = elsewhere = (struct offload_memory){ 0 };
	return 0;
}

int guard_forget_elsewhere(int directory)
{
	_cleanup_(offload_memory_done) struct offload_memory here = { 0 }, elsewhere = { 0 };
	int r = guard_read(directory, &here, &elsewhere);

	return r < 0 ? r : write_memory(directory, &here);
}
