package blocks

// queue of the tasks that wait for an instance: first come, first served. Tasks that ended while they waited stay
// in it until their turn and are then skipped.
type queue struct {
	front   []*task // came back from a lost instance, last first
	back    []*task
	waiting int // without the ended ones
}

func (q *queue) push(t *task) {
	q.back = append(q.back, t)
	t.queued = true
	q.waiting++
}

func (q *queue) pushFront(ts []*task) {
	for i := len(ts) - 1; i >= 0; i-- {
		q.front = append(q.front, ts[i])
		ts[i].queued = true
		q.waiting++
	}
}

// leave takes a task out of the queue that has ended or was taken up.
func (q *queue) leave(t *task) {
	if t.queued {
		t.queued = false
		q.waiting--
	}
}

// pop takes the next task, nil if there is none.
func (q *queue) pop() *task {
	for {
		var t *task
		switch {
		case len(q.front) > 0:
			t = q.front[len(q.front)-1]
			q.front[len(q.front)-1] = nil
			q.front = q.front[:len(q.front)-1]
		case len(q.back) > 0:
			t = q.back[0]
			q.back[0] = nil
			q.back = q.back[1:]
		default:
			q.back = nil
			return nil
		}
		if t.queued {
			q.leave(t)
			return t
		}
	}
}
