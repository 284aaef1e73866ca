/* Work: queues, the order between streams, events, capture and graphs. */

/* A device address is the host's plus this: neither side can use the other's by accident. */
static const uint64_t ON_DEVICE = 1ull << 60;

/* The memory at an address, freed or not: a machine takes no address twice. */
static block *find_block(uint64_t address, size_t size, int on_host) {
    for (object *o = objects; o; o = o->next) {
        block *b = (block *)o;
        if (o->old || !(o->kind == PINNED ? on_host || b->mapped : o->kind == DEVICE && !on_host)) continue;
        uint64_t start = (uint64_t)b->host + (on_host ? 0 : ON_DEVICE);
        if (address >= start && address + size <= start + b->size) return b;
    }
    return NULL;
}
/* Sets the block of a range. 0 where there is none in use, which is reported. */
static int resolve(range *range) {
    range->block = find_block(range->address, range->size, range->on_host);
    if (range->block && !range->block->object.dead) return 1;
    report(0, "%zu bytes at %#llx %s", range->size, (unsigned long long)range->address,
           range->block ? "are used after they were freed" : "are not memory of this driver");
    return 0;
}
static void *host_address(const range *range) { return (void *)(range->address - (range->on_host ? 0 : ON_DEVICE)); }

/* A stream's number, which a later stream may take over: the counts go on. Slot 0 is the default stream. */
static struct { uint64_t issued, done; CUstream stream; } slots[SLOTS];
static clocks waited;                       /* what the host has waited for */
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static float milliseconds;

static CUstream live(int slot) {
    CUstream stream = slots[slot].stream;
    return stream && !stream->object.dead ? stream : NULL;
}
#define EACH_STREAM(stream) for (int t_ = 0; t_ < SLOTS; t_++) for (CUstream stream = live(t_); stream; stream = NULL)
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
static void clear(list *list) {
    for (op *o = list->first, *next; o; o = next) { next = o->next; free(o); }
    list->first = NULL;
}
/* what an object of the machine before holds */
static void free_work(object *o) {
    if (o->kind == STREAM) clear(&((CUstream)o)->queue), slots[((CUstream)o)->slot].stream = NULL;
    if (o->kind == GRAPH) clear(&((CUgraph)o)->ops);
    if (o->kind == MODULE) free(((CUmodule)o)->image);
    if (o->kind == DEVICE || o->kind == PINNED) free(((block *)o)->host);
}
/* NULL is the default stream, and what is returned for what is no stream of the current context. */
static CUstream stream_of(CUstream stream) {
    if (!stream) return slots[0].stream;
    return alive(stream, STREAM) && stream->object.context == stack[depth - 1] ? stream : NULL;
}
#define FIND(stream, given) \
    CUstream stream = stream_of(given); \
    do { if (!stream) return report(CUDA_ERROR_INVALID_HANDLE, "no stream of the current context"); } while (0)

/* ---- what comes before what ---- */

/* what a piece of work that is put on the stream now comes after */
static clocks order(CUstream stream) {
    clocks after = stream->clock;
    merge(&after, &waited);
    /* "the legacy default stream waits for all blocking streams, and they for it" (CUDA, stream behavior) */
    EACH_STREAM(other)
        if (stream->blocking && other->blocking && (!stream->slot || !other->slot)) merge(&after, &other->clock);
    return after;
}
/* Reports work on another stream that touches the same memory and is not before this. */
static void look_for_races(const op *work, int slot) {
    for (const range *r = work->ranges; r < work->ranges + work->count; r++) {
        block *b = r->block;
        if (!b) continue;
        if (b->written > work->after.seq[b->writer])
            report(0, "race: %zu bytes of stream %d are not ordered after a write on stream %d", r->size, slot, b->writer);
        for (int t = 0; t < SLOTS && r->write; t++)
            if (b->read[t] > work->after.seq[t])
                report(0, "race: %zu bytes of stream %d are not ordered after a read on stream %d", r->size, slot, t);
        if (r->write) b->writer = slot, b->written = work->seq;
        else b->read[slot] = work->seq;
    }
}
static int is_pending(const block *b) {
    int pending = b->written > waited.seq[b->writer];
    for (int t = 0; t < SLOTS; t++) pending |= b->read[t] > waited.seq[t];
    return pending;
}

/* ---- doing it ---- */

static void perform(op *work) {
    if (sticky) return;
    if (work->work == COPY) memmove(host_address(&work->ranges[0]), host_address(&work->ranges[1]), work->ranges[0].size);
    if (work->work == MARK && work->event->seq == work->seq) work->event->time = milliseconds++;
    if (!work->function) return;
    /* it may take Python's lock, whose holder may wait for ours */
    pthread_mutex_unlock(&lock);
    work->function(work->data);
    pthread_mutex_lock(&lock);
}
/* Does the work of a slot up to this number, and first what that comes after. */
static void run_until(int slot, uint64_t seq) {
    while (slots[slot].done < seq) {
        CUstream stream = slots[slot].stream;
        while (stream->busy) pthread_cond_wait(&idle, &lock);
        if (slots[slot].done >= seq) return;
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
static CUresult finish_all(void) {
    clocks all;
    for (int t = 0; t < SLOTS; t++) all.seq[t] = slots[t].issued;
    return wait_for(all);
}

/* ---- putting it on a stream ---- */

static CUresult issue(CUstream given, op *work) {
    FIND(stream, given);
    if (stream->capture) return append(&stream->capture->ops, work), CUDA_SUCCESS;
    EACH_STREAM(other) {
        if (stream->slot || !other->capture || !other->blocking) continue;
        other->invalid = 1;
        return report(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the default stream is used while one that waits for it is captured");
    }
    for (range *r = work->ranges; r < work->ranges + work->count; r++)
        if (!resolve(r)) return work->work == KERNEL ? (sticky = CUDA_ERROR_ILLEGAL_ADDRESS) : CUDA_ERROR_INVALID_VALUE;
    work->after = order(stream);
    work->seq = work->after.seq[stream->slot] = ++slots[stream->slot].issued;
    stream->clock = work->after;
    look_for_races(work, stream->slot);
    append(&stream->queue, work);
    return CUDA_SUCCESS;
}
/* A kernel whose work the host does: `function` is called when it runs. It touches these ranges of device memory. */
EXPORT CUresult testcuda_kernel(CUstream stream, void (*function)(void *), void *data, int count,
                                const uint64_t *addresses, const size_t *sizes, const int *writes) {
    ENTER(CURRENT);
    op work = { .work = KERNEL, .function = function, .data = data, .count = count };
    for (int i = 0; i < count; i++) work.ranges[i] = (range){ addresses[i], sizes[i], writes[i], 0, NULL };
    return issue(stream, &work);
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    ENTER(CURRENT);
    int slot = 1;
    while (slot < SLOTS && live(slot)) slot++;
    if (slot == SLOTS) return report(CUDA_ERROR_OUT_OF_MEMORY, "more than %d streams", SLOTS);
    CUstream made = *stream = slots[slot].stream = make(STREAM, sizeof *made);
    made->slot = slot;
    made->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    made->clock.seq[slot] = slots[slot].issued;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamDestroy(CUstream stream) {
    ENTER(CURRENT);
    CHECK(stream, STREAM);
    if (stream->capture) return report(CUDA_ERROR_ILLEGAL_STATE, "the stream is captured");
    run_until(stream->slot, slots[stream->slot].issued);
    stream->object.dead = 1;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamSynchronize(CUstream given) {
    ENTER(CURRENT);
    FIND(stream, given);
    if (stream->capture) return stream->invalid = 1, report(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream is captured");
    return wait_for(stream->slot ? stream->clock : order(stream));
}

EXPORT CUresult cuEventCreate(CUevent *event, unsigned flags) {
    ENTER(CURRENT);
    *event = make(EVENT, sizeof **event);
    (*event)->flags = flags;
    return CUDA_SUCCESS;
}
DESTROY(cuEventDestroy, CUevent, EVENT, CURRENT)
EXPORT CUresult cuEventRecord(CUevent event, CUstream given) {
    ENTER(CURRENT);
    CHECK(event, EVENT);
    FIND(stream, given);
    if (stream->capture) return report(CUDA_ERROR_NOT_SUPPORTED, "during capture is not in this driver");
    op work = { .work = MARK, .event = event };
    CUresult error = issue(given, &work);
    if (!error) event->slot = stream->slot, event->at = work.after, event->seq = work.seq;
    return error;
}
EXPORT CUresult cuEventSynchronize(CUevent event) { ENTER(CURRENT); CHECK(event, EVENT); return wait_for(event->at); }
EXPORT CUresult cuEventElapsedTime(float *elapsed, CUevent from, CUevent to) {
    ENTER(CURRENT);
    CHECK(from, EVENT);
    CHECK(to, EVENT);
    if (!from->seq || !to->seq || (from->flags | to->flags) & CU_EVENT_DISABLE_TIMING)
        return report(CUDA_ERROR_INVALID_HANDLE, "an event has no time");
    if (slots[from->slot].done < from->seq || slots[to->slot].done < to->seq) return CUDA_ERROR_NOT_READY;
    if (to->at.seq[from->slot] < from->seq) report(0, "nothing orders the first event before the second");
    *elapsed = to->time - from->time;
    return CUDA_SUCCESS;
}

/* ---- capture and graphs ---- */

/* whether a call that may wait is unsafe now on this thread; the capture that forbids it becomes invalid */
static int capture_forbids(void) {
    int forbidden = 0;
    EACH_STREAM(s) {
        int here = s->mode == CU_STREAM_CAPTURE_MODE_GLOBAL || pthread_equal(s->owner, pthread_self());
        if (s->capture && here && s->mode != CU_STREAM_CAPTURE_MODE_RELAXED) s->invalid = forbidden = 1;
    }
    return forbidden;
}
EXPORT CUresult cuStreamBeginCapture(CUstream given, CUstreamCaptureMode mode) {
    ENTER(CURRENT);
    CUstream stream = stream_of(given);
    if (!stream || !stream->slot) return report(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "no stream that can be captured");
    if (stream->capture) return report(CUDA_ERROR_ILLEGAL_STATE, "the stream is captured already");
    stream->capture = make(GRAPH, sizeof *stream->capture);
    stream->invalid = 0, stream->owner = pthread_self(), stream->mode = mode;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamIsCapturing(CUstream given, CUstreamCaptureStatus *status) {
    ENTER(CURRENT);
    FIND(stream, given);
    *status = stream->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE + stream->invalid : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}
/* an injected failure ends the capture all the same */
EXPORT CUresult cuStreamEndCapture(CUstream given, CUgraph *graph) {
    LOCKED;
    CUresult error = enter(__func__, CURRENT);
    CUstream stream = stream_of(given);
    *graph = NULL;
    if (!stream || !stream->capture) return report(CUDA_ERROR_ILLEGAL_STATE, "the stream is not captured");
    if (!pthread_equal(stream->owner, pthread_self()) && stream->mode != CU_STREAM_CAPTURE_MODE_RELAXED)
        return report(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "another thread began the capture");
    CUgraph made = stream->capture;
    stream->capture = NULL;
    if (stream->invalid && !error) error = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (error) made->object.dead = 1;
    else *graph = made;
    return error;
}
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    ENTER(CURRENT);
    CHECK(graph, GRAPH);
    *exec = make(EXEC, sizeof **exec);
    (*exec)->graph = graph;                 /* whose work stays when it is destroyed */
    return CUDA_SUCCESS;
}
DESTROY(cuGraphDestroy, CUgraph, GRAPH, DRIVER)
DESTROY(cuGraphExecDestroy, CUgraphExec, EXEC, DRIVER)
EXPORT CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ENTER(CURRENT);
    CHECK(exec, EXEC);
    CUresult error = CUDA_SUCCESS;
    for (op *o = exec->graph->ops.first; o && !error; o = o->next) {
        op work = *o;
        error = issue(stream, &work);
    }
    return error;
}
