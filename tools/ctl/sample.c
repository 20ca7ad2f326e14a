/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/ip4.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/sample.h"

int sample_take(struct sample *ret)
{
	_cleanup_(sample_done) struct sample sample = SAMPLE_NONE;
	int r;

	r = live_read(&sample.live);
	if (r < 0)
		return r;
	(void)clock_gettime(CLOCK_MONOTONIC, &sample.monotonic);
	(void)clock_gettime(CLOCK_REALTIME, &sample.wall);
	r = live_count(&sample.live);
	if (r < 0)
		return r;
	*ret = sample;
	sample = SAMPLE_NONE;
	return 0;
}

void sample_done(struct sample *sample)
{
	live_done(&sample->live);
	*sample = SAMPLE_NONE;
}

double sample_seconds(const struct sample *before, const struct sample *now)
{
	if (!before || !before->live.counters)
		return 0;
	return (double)(now->monotonic.tv_sec - before->monotonic.tv_sec) +
	       (double)(now->monotonic.tv_nsec - before->monotonic.tv_nsec) / 1e9;
}

struct rate sample_rate(const struct sample *before, const struct sample *now, size_t row)
{
	const struct row *key = &now->live.rows.list[row];
	const struct slot_counters *was = NULL;
	size_t i;

	if (before && before->live.counters) {
		i = live_find(&before->live, key->remote, key->inner_source);
		/* Another slot: the row went and came back. */
		if (i != SIZE_MAX && before->live.rows.list[i].entry.slot == key->entry.slot)
			was = &before->live.counters[i];
	}
	return rate_make(was, &now->live.counters[row], sample_seconds(before, now));
}

struct rate sample_no_entry_rate(const struct sample *before, const struct sample *now)
{
	const struct slot_counters *was =
		before && before->live.counters ? &before->live.no_entry : NULL;

	return rate_make(was, &now->live.no_entry, sample_seconds(before, now));
}

const char *sample_time(const struct sample *sample, char buf[static SAMPLE_TIME_MAX])
{
	struct tm tm = { 0 };
	size_t n;

	(void)gmtime_r(&sample->wall.tv_sec, &tm);
	n = strftime(buf, SAMPLE_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(
		buf + n, SAMPLE_TIME_MAX - n, ".%03dZ", (int)(sample->wall.tv_nsec / 1000000));
	return buf;
}

static int compare_owners(const void *a, const void *b)
{
	return row_compare(&((const struct owner *)a)->key, &((const struct owner *)b)->key);
}

static int read_key(const json_t *entry, struct row *ret)
{
	const char *source = json_text(entry, "inner_source");
	struct row key = { .map = source[0] ? ROW_SOURCES : ROW_REMOTES };

	if (ip4_parse(json_text(entry, "remote"), &key.remote) < 0 ||
		(source[0] && ip4_parse(source, &key.inner_source) < 0))
		return -EBADMSG;
	*ret = key;
	return 0;
}

int owners_make(const json_t *document, struct owners *ret)
{
	const json_t *entries = json_object_get(document, "entries");
	_cleanup_(owners_done) struct owners owners = { 0 };
	const json_t *entry;
	size_t i;

	json_array_foreach((json_t *)entries, i, entry)
	{
		struct row key;
		struct owner *owner;

		if (read_key(entry, &key) < 0)
			continue;
		owner = ARRAY_APPEND(owners.list, owners.n);
		if (!owner)
			return -ENOMEM;
		*owner = (struct owner){ key, json_object_get(entry, "tunnel") };
		owners.n++;
	}
	if (owners.n > 0)
		qsort(owners.list, owners.n, sizeof(*owners.list), compare_owners);
	*ret = owners;
	owners = (struct owners){ 0 };
	return 0;
}

void owners_done(struct owners *owners)
{
	free(owners->list);
	*owners = (struct owners){ 0 };
}

const json_t *owners_find(const struct owners *owners, const struct row *row)
{
	const struct owner key = { .key = *row };
	const struct owner *found = NULL;

	if (owners->n > 0)
		found = bsearch(&key, owners->list, owners->n, sizeof(key), compare_owners);
	return found && json_is_object(found->tunnel) ? found->tunnel : NULL;
}
