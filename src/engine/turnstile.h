/* SPDX-License-Identifier: Apache-2.0 */
/* Lets threads through one at a time, in the order of their tickets: 0, 1, 2 … */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct vmimg_turnstile {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t moved;
	uint64_t next;
	bool broken;
};

void vmimg_turnstile_init(struct vmimg_turnstile *t);
void vmimg_turnstile_done(struct vmimg_turnstile *t);
/* Waits for the ticket's turn. False when the turnstile was broken: do not go on, do not leave. */
bool vmimg_turnstile_enter(struct vmimg_turnstile *t, uint64_t ticket);
void vmimg_turnstile_leave(struct vmimg_turnstile *t);
/* Sends everybody away, now and later: some thread has failed and will not come. */
void vmimg_turnstile_break(struct vmimg_turnstile *t);
