-- Notes what the object store calls the upload of a recording, unless that is known.   KEYS: recording   ARGV: name
if redis.call('HGET', KEYS[1], 'upload') == '' then redis.call('HSET', KEYS[1], 'upload', ARGV[1]) end
return 'ok'
