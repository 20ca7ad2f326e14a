/* SPDX-License-Identifier: MIT */
#include "tools/ctl/rate.h"

static bool went_back(const struct slot_counters *before, const struct slot_counters *now)
{
	if (now->direct.packets < before->direct.packets ||
		now->direct.bytes < before->direct.bytes)
		return true;
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		if (now->kept.packets[i] < before->kept.packets[i])
			return true;
	return false;
}

struct rate rate_make(
	const struct slot_counters *before, const struct slot_counters *now, double seconds)
{
	struct rate rate = { 0 };

	/* A slot is zeroed before it gets another row. */
	if (!before || seconds <= 0 || went_back(before, now))
		return rate;
	rate.known = true;
	rate.packets = (double)(now->direct.packets - before->direct.packets) / seconds;
	rate.bytes = (double)(now->direct.bytes - before->direct.bytes) / seconds;
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		rate.kept[i] = (double)(now->kept.packets[i] - before->kept.packets[i]) / seconds;
	return rate;
}

void rate_add(struct rate *sum, const struct rate *rate)
{
	if (!rate->known)
		return;
	sum->known = true;
	sum->packets += rate->packets;
	sum->bytes += rate->bytes;
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		sum->kept[i] += rate->kept[i];
}

double rate_kept(const struct rate *rate, enum maps_reason *ret_main)
{
	enum maps_reason found = MAPS_REASON_COUNT;
	double sum = 0, most = 0;

	for (size_t i = 0; i < MAPS_REASON_COUNT; i++) {
		if (i == MAPS_KEPT_SHADOW || i == MAPS_DROP_WRITE_FAILED)
			continue;
		sum += rate->kept[i];
		if (rate->kept[i] > most) {
			most = rate->kept[i];
			found = (enum maps_reason)i;
		}
	}
	*ret_main = found;
	return sum;
}
