"""Who may submit, and who starts when.

submission   from a riseml.yml to an unfinished experiment; admission says what quotas allow
unfinished   the unfinished experiments and their state in the queue
scheduler    the main loop: the policy decides, whenever something has changed
accounting   who holds and has used what, for the policy
prelaunch    jobs that are started ahead of their turn
dispatch     starts members, or takes up what an earlier daemon left, and takes back what they held
kill         ends experiments and members
"""
