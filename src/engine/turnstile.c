/* SPDX-License-Identifier: Apache-2.0 */
/* One condition, all waiters woken: there are as many waiters as processors, not more. */
#include "engine/turnstile.h"

void vmimg_turnstile_init(struct vmimg_turnstile *t)
{
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->moved, NULL);
	t->next = 0;
	t->broken = false;
}

void vmimg_turnstile_done(struct vmimg_turnstile *t)
{
	pthread_cond_destroy(&t->moved);
	pthread_mutex_destroy(&t->lock);
}

bool vmimg_turnstile_enter(struct vmimg_turnstile *t, uint64_t ticket)
{
	bool mine;

	pthread_mutex_lock(&t->lock);
	while (t->next != ticket && !t->broken)
		pthread_cond_wait(&t->moved, &t->lock);
	mine = !t->broken;
	pthread_mutex_unlock(&t->lock);
	return mine;
}

void vmimg_turnstile_leave(struct vmimg_turnstile *t)
{
	pthread_mutex_lock(&t->lock);
	t->next++;
	pthread_cond_broadcast(&t->moved);
	pthread_mutex_unlock(&t->lock);
}

void vmimg_turnstile_break(struct vmimg_turnstile *t)
{
	pthread_mutex_lock(&t->lock);
	t->broken = true;
	pthread_cond_broadcast(&t->moved);
	pthread_mutex_unlock(&t->lock);
}
