"""Jobs at their time.

The arithmetic is pure: `cron`, `timetable`, `blackouts`, `settling`, `overlaps`. `kinds` says what can be scheduled,
`targets` what a firing is about, `scheduler` is the controller's tick and `desk` the face towards the API.
"""
