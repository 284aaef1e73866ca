/* Work: queues, the order between streams, events, capture and graphs. */
#include "driver.h"

/* A stream's number, which a later stream may take over: the counts go on. Slot 0 is the default stream. */
static struct { uint64_t issued, done; CUstream stream; } slots[SLOTS];
static clocks waited;                       /* what the host has waited for */
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static float milliseconds;

static CUstream live(int slot) {
    CUstream stream = slots[slot].stream;
    return stream && !stream->object.dead ? stream : NULL;
}
static void merge(clocks *into, const clocks *from) {
    for (int i = 0; i < SLOTS; i++) if (from->seq[i] > into->seq[i]) into->seq[i] = from->seq[i];
}
static void append(list *list, const op *work) {
    op *copy = malloc(sizeof *copy);
    *copy = *work;
    copy->next = NULL;
    if (!list->first) list->last = &list->first;
    *list->last = copy;
    list->last = &copy->next;
}
static void copy_list(list *into, const list *from) { for (op *o = from->first; o; o = o->next) append(into, o); }
static void clear(list *list) {
    for (op *o = list->first, *next; o; o = next) { next = o->next; free(o); }
    list->first = NULL;
}
void free_work(object *object) {
    if (object->kind == STREAM) {
        clear(&((CUstream)object)->queue);
        slots[((CUstream)object)->slot].stream = NULL;      /* only when a new machine starts */
    }
    if (object->kind == GRAPH) clear(&((CUgraph)object)->ops);
    if (object->kind == EXEC) clear(&((CUgraphExec)object)->ops);
    if (object->kind == MODULE) free(((CUmodule)object)->image);
}
void start_streams(void) {
    CUstream made = make(STREAM, sizeof *made);
    made->object.context = NULL;
    made->blocking = 1;
    for (int i = 0; i < SLOTS; i++) slots[i].done = slots[i].issued;
    slots[0].stream = made;
    milliseconds = 0;
}
/* NULL and CU_STREAM_LEGACY are the default stream; NULL is returned for what is no stream of the current context. */
CUstream stream_of(CUstream stream) {
    if (!stream || stream == CU_STREAM_LEGACY) return slots[0].stream;
    return alive(stream, STREAM) && stream->object.context == stack[depth - 1] ? stream : NULL;
}

/* ---- what comes before what ---- */

/* what a piece of work that is put on the stream now comes after */
static clocks order(CUstream stream) {
    clocks after = stream->clock;
    merge(&after, &waited);
    /* "the legacy default stream waits for all blocking streams, and they for it" (CUDA, stream behavior) */
    for (int i = 0; i < SLOTS && stream->blocking; i++)
        if (live(i) && live(i)->blocking && (!stream->slot || !i)) merge(&after, &live(i)->clock);
    return after;
}
/* Reports work on another stream that touches the same memory and is not before this. */
static void look_for_races(const op *work, int slot, const char *where) {
    for (int i = 0; i < work->count; i++) {
        const range *r = &work->ranges[i];
        block *b = r->block;
        if (!b) continue;
        if (b->written > work->after.seq[b->writer])
            report(where, "race: %zu bytes of stream %d are not ordered after a write on stream %d", r->size, slot, b->writer);
        for (int t = 0; t < SLOTS && r->write; t++)
            if (b->read[t] > work->after.seq[t])
                report(where, "race: %zu bytes of stream %d are not ordered after a read on stream %d", r->size, slot, t);
    }
    for (int i = 0; i < work->count; i++) {
        const range *r = &work->ranges[i];
        if (!r->block) continue;
        if (r->write) r->block->writer = slot, r->block->written = work->seq;
        else r->block->read[slot] = work->seq;
    }
}
int is_pending(const block *b) {
    if (b->written > waited.seq[b->writer]) return 1;
    for (int t = 0; t < SLOTS; t++) if (b->read[t] > waited.seq[t]) return 1;
    return 0;
}

/* ---- doing it ---- */

static void perform(op *work) {
    for (int i = 0; i < work->count && !sticky; i++)
        if (work->ranges[i].block && work->ranges[i].block->dead) {
            resolve(&work->ranges[i], "work on a stream");
            sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
        }
    if (sticky) return;
    switch (work->work) {
    case COPY: memmove(host_address(&work->ranges[0]), host_address(&work->ranges[1]), work->ranges[0].size); break;
    case SET: memset(host_address(&work->ranges[0]), work->value, work->ranges[0].size); break;
    case MARK: if (work->event->seq == work->seq) work->event->time = milliseconds++; break;
    case KERNEL:
        if (!work->function) break;
        /* it may take Python's lock, whose holder may wait for ours */
        pthread_mutex_unlock(&lock);
        work->function(work->data);
        pthread_mutex_lock(&lock);
        break;
    }
}
/* Does the work of a slot up to this number, and first what that comes after. */
static void run_until(int slot, uint64_t seq) {
    while (slots[slot].done < seq) {
        CUstream stream = slots[slot].stream;
        if (stream->busy) {
            pthread_cond_wait(&idle, &lock);
            continue;
        }
        op *work = stream->queue.first;
        stream->queue.first = work->next;
        stream->busy = 1;
        for (int t = 0; t < SLOTS; t++) if (t != slot) run_until(t, work->after.seq[t]);
        perform(work);
        slots[slot].done = work->seq;
        stream->busy = 0;
        pthread_cond_broadcast(&idle);
        free(work);
    }
}
static CUresult wait_for(clocks all) {
    for (int t = 0; t < SLOTS; t++) run_until(t, all.seq[t]);
    merge(&waited, &all);
    return sticky;
}
void finish_all(void) {
    clocks all;
    for (int t = 0; t < SLOTS; t++) all.seq[t] = slots[t].issued;
    wait_for(all);
}

/* ---- putting it on a stream ---- */

static CUresult put(CUstream stream, op *work, const char *where) {
    for (int i = 0; i < work->count; i++) {
        range *r = &work->ranges[i];
        if (r->on_host && work->pageable && !find_block(r->address, r->size, 1)) continue;
        if (!resolve(r, where)) {
            if (work->work != KERNEL) return CUDA_ERROR_INVALID_VALUE;
            return sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
        }
    }
    work->after = order(stream);
    work->seq = work->after.seq[stream->slot] = ++slots[stream->slot].issued;
    stream->clock = work->after;
    look_for_races(work, stream->slot, where);
    append(&stream->queue, work);
    return CUDA_SUCCESS;
}
CUresult issue(CUstream given, op *work, const char *where) {
    CUstream stream = stream_of(given);
    if (!stream) {
        report(where, "no stream of the current context");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (stream->capture) {
        append(&stream->capture->ops, work);
        return CUDA_SUCCESS;
    }
    for (int t = 0; t < SLOTS && !stream->slot; t++) {
        CUstream other = live(t);
        if (!other || !other->capture || !other->blocking) continue;
        report(where, "the default stream is used while a stream that waits for it is captured");
        other->invalid = 1;
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    return put(stream, work, where);
}
CUresult issue_and_wait(op *work, const char *where) {
    work->pageable = 1;
    CUresult error = issue(NULL, work, where);
    return error ? error : wait_for(slots[0].stream->clock);
}
/* A kernel whose work the host does: `function` is called when it runs. It touches these ranges of device memory. */
EXPORT CUresult testcuda_kernel(CUstream stream, void (*function)(void *), void *data, int count,
                                const uint64_t *addresses, const size_t *sizes, const int *writes) {
    ENTER(CURRENT);
    op work = { .work = KERNEL, .function = function, .data = data, .count = count };
    if (count > RANGES) FAIL(CUDA_ERROR_INVALID_VALUE, "%d ranges", count);
    for (int i = 0; i < count; i++) work.ranges[i] = (range){ addresses[i], sizes[i], writes[i], 0, NULL };
    return issue(stream, &work, __func__);
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    ENTER(CURRENT);
    int slot = 1;
    while (slot < SLOTS && live(slot)) slot++;
    if (slot == SLOTS) FAIL(CUDA_ERROR_OUT_OF_MEMORY, "more than %d streams", SLOTS);
    CUstream made = *stream = make(STREAM, sizeof *made);
    made->slot = slot;
    made->flags = flags;
    made->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    made->clock.seq[slot] = slots[slot].issued;
    slots[slot].stream = made;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamDestroy(CUstream stream) {
    ENTER(CURRENT);
    CHECK(stream, STREAM);
    if (stream->capture) FAIL(CUDA_ERROR_ILLEGAL_STATE, "the stream is captured");
    run_until(stream->slot, slots[stream->slot].issued);
    stream->object.dead = 1;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamSynchronize(CUstream given) {
    ENTER(CURRENT);
    CUstream stream = stream_of(given);
    if (!stream) FAIL(CUDA_ERROR_INVALID_HANDLE, "no stream of the current context");
    if (stream->capture) {
        stream->invalid = 1;
        FAIL(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream is captured");
    }
    return wait_for(stream->slot ? stream->clock : order(stream));
}
EXPORT CUresult cuStreamWaitEvent(CUstream given, CUevent event, unsigned flags) {
    ENTER(CURRENT);
    CHECK(event, EVENT);
    CUstream stream = stream_of(given);
    if (!stream) FAIL(CUDA_ERROR_INVALID_HANDLE, "no stream of the current context");
    if (stream->capture || event->captured) FAIL(CUDA_ERROR_NOT_SUPPORTED, "during capture is not in this driver");
    merge(&stream->clock, &event->at);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSynchronize(void) { ENTER(SAFE); finish_all(); return sticky; }

EXPORT CUresult cuEventCreate(CUevent *event, unsigned flags) {
    ENTER(CURRENT);
    *event = make(EVENT, sizeof **event);
    (*event)->flags = flags;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventDestroy(CUevent event) { ENTER(CURRENT); CHECK(event, EVENT); event->object.dead = 1; return CUDA_SUCCESS; }
EXPORT CUresult cuEventRecord(CUevent event, CUstream given) {
    ENTER(CURRENT);
    CHECK(event, EVENT);
    CUstream stream = stream_of(given);
    op work = { .work = MARK, .event = event };
    CUresult error = issue(given, &work, __func__);
    if (error) return error;
    event->recorded = 1;
    if ((event->captured = !!stream->capture)) return CUDA_SUCCESS;
    event->slot = stream->slot;
    event->at = work.after;
    event->seq = work.seq;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventSynchronize(CUevent event) {
    ENTER(CURRENT);
    CHECK(event, EVENT);
    if (event->captured) FAIL(CUDA_ERROR_CAPTURED_EVENT, "the event was recorded in a capture");
    return wait_for(event->at);
}
EXPORT CUresult cuEventElapsedTime(float *elapsed, CUevent from, CUevent to) {
    ENTER(CURRENT);
    CHECK(from, EVENT);
    CHECK(to, EVENT);
    if (!from->recorded || !to->recorded || (from->flags | to->flags) & CU_EVENT_DISABLE_TIMING)
        FAIL(CUDA_ERROR_INVALID_HANDLE, "an event has no time");
    if (slots[from->slot].done < from->seq || slots[to->slot].done < to->seq) return CUDA_ERROR_NOT_READY;
    if (to->at.seq[from->slot] < from->seq) report(__func__, "nothing orders the first event before the second");
    *elapsed = to->time - from->time;
    return CUDA_SUCCESS;
}

/* ---- capture and graphs ---- */

/* whether a call that may wait is unsafe now on this thread; the capture that forbids it becomes invalid */
int capture_forbids(void) {
    int forbidden = 0;
    for (int t = 0; t < SLOTS; t++) {
        CUstream s = live(t);
        if (!s || !s->capture || s->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
        if (s->mode == CU_STREAM_CAPTURE_MODE_GLOBAL || pthread_equal(s->owner, pthread_self())) s->invalid = forbidden = 1;
    }
    return forbidden;
}
EXPORT CUresult cuStreamBeginCapture(CUstream given, CUstreamCaptureMode mode) {
    ENTER(CURRENT);
    CUstream stream = stream_of(given);
    if (!stream || !stream->slot) FAIL(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "no stream that can be captured");
    if (stream->capture) FAIL(CUDA_ERROR_ILLEGAL_STATE, "the stream is captured already");
    stream->capture = make(GRAPH, sizeof *stream->capture);
    stream->invalid = 0;
    stream->owner = pthread_self();
    stream->mode = mode;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamIsCapturing(CUstream given, CUstreamCaptureStatus *status) {
    ENTER(CURRENT);
    CUstream s = stream_of(given);
    if (!s) FAIL(CUDA_ERROR_INVALID_HANDLE, "no stream of the current context");
    *status = !s->capture ? CU_STREAM_CAPTURE_STATUS_NONE
        : s->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamEndCapture(CUstream given, CUgraph *graph) {
    /* an injected failure must end the capture all the same */
    int held_ __attribute__((cleanup(leave), unused)) = 1;
    pthread_mutex_lock(&lock);
    int injected = enter(__func__, CURRENT);
    CUstream stream = stream_of(given);
    *graph = NULL;
    if (!stream || !stream->capture) FAIL(CUDA_ERROR_ILLEGAL_STATE, "the stream is not captured");
    if (!pthread_equal(stream->owner, pthread_self()) && stream->mode != CU_STREAM_CAPTURE_MODE_RELAXED)
        FAIL(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "another thread began the capture");
    CUgraph made = stream->capture;
    stream->capture = NULL;
    if (stream->invalid || injected) {
        made->object.dead = 1;
        return injected ? injected : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    *graph = made;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    ENTER(CURRENT);
    CHECK(graph, GRAPH);
    *exec = make(EXEC, sizeof **exec);
    copy_list(&(*exec)->ops, &graph->ops);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphDestroy(CUgraph graph) { ENTER(DRIVER); CHECK(graph, GRAPH); graph->object.dead = 1; return CUDA_SUCCESS; }
EXPORT CUresult cuGraphExecDestroy(CUgraphExec exec) { ENTER(DRIVER); CHECK(exec, EXEC); exec->object.dead = 1; return CUDA_SUCCESS; }
EXPORT CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ENTER(CURRENT);
    CHECK(exec, EXEC);
    for (op *o = exec->ops.first; o; o = o->next) {
        op work = *o;
        CUresult error = issue(stream, &work, __func__);
        if (error) return error;
    }
    return CUDA_SUCCESS;
}
