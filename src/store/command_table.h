/* COMMAND_TABLE: every command of the product, once (X-macro; commands.h says what is expanded).
 *
 *   X(name, arguments, arity, flags, first key, last key, key step, group, since, exec, summary)
 *
 * Arity, flags, key positions, group and since are those of Redis 7.2 (its COMMAND INFO is compared
 * with ours in tests/e2e/test_redis_differential.py). The summaries are ours. exec is the function
 * that runs the command in the store; call_connection stands where the gateway's connection
 * answers, call_storage where the storage does before it comes to the commands.
 */
/* clang-format off */
#pragma once

#define F_FREE (CMD_CONNECTION | CMD_NO_SCRIPT | CMD_LOADING | CMD_STALE)
#define F_HELLO (F_FREE | CMD_FAST | CMD_NO_AUTH | CMD_ALLOW_BUSY)
#define F_TX (F_FREE | CMD_FAST | CMD_ALLOW_BUSY)
#define F_ADD (CMD_WRITE | CMD_GROWS)
#define F_OWN_READ (CMD_INTERNAL | CMD_READ)
#define F_OWN_WRITE (CMD_INTERNAL | CMD_WRITE)

#define COMMAND_TABLE_CONNECTION(X)                                                                \
    X("AUTH", "[username] password", -2, F_HELLO, 0, 0, 0, "connection", "1.0.0", call_connection, \
      "Authenticates the connection.")                                                             \
    X("CLIENT", "subcommand [argument ...]", -2, CMD_CONNECTION, 0, 0, 0, "connection", "2.4.0",   \
      call_connection, "Names the connection, tells about it, and switches its replies.")          \
    X("ECHO", "message", 2, CMD_CONNECTION | CMD_LOADING | CMD_STALE | CMD_FAST, 0, 0, 0,          \
      "connection", "1.0.0", call_connection, "Answers with the message it was given.")            \
    X("HELLO", "[protover [AUTH username password] [SETNAME clientname]]", -1, F_HELLO, 0, 0, 0,   \
      "connection", "6.0.0", call_connection, "Chooses RESP2 or RESP3 and introduces the server.") \
    X("PING", "[message]", -1, CMD_CONNECTION | CMD_FAST, 0, 0, 0, "connection", "1.0.0",          \
      call_connection, "Answers PONG, or the message.")                                            \
    X("QUIT", "", -1, F_HELLO, 0, 0, 0, "connection", "1.0.0", call_connection,                    \
      "Closes the connection after the answer.")                                                   \
    X("RESET", "", 1, F_HELLO, 0, 0, 0, "connection", "6.2.0", call_connection,                    \
      "Puts the connection back into the state it began in.")                                      \
    X("SELECT", "index", 2, CMD_CONNECTION | CMD_LOADING | CMD_STALE | CMD_FAST, 0, 0, 0,          \
      "connection", "1.0.0", call_connection, "Chooses the numbered database.")                    \
    X("COMMAND", "[COUNT | DOCS | INFO | ...]", -1, CMD_CONNECTION | CMD_LOADING | CMD_STALE,      \
      0, 0, 0, "server", "2.8.13", call_connection, "Describes the commands of this table.")       \
    X("CONFIG", "GET | SET | ... [argument ...]", -2, CMD_CONNECTION, 0, 0, 0, "server", "2.0.0",  \
      call_connection, "Reads and sets the parameters that clients ask for.")                      \
    X("INFO", "[section ...]", -1, CMD_CONNECTION | CMD_LOADING | CMD_STALE, 0, 0, 0, "server",    \
      "1.0.0", call_connection, "Tells about the server, section by section.")                     \
    X("TIME", "", 1, CMD_CONNECTION | CMD_LOADING | CMD_STALE | CMD_FAST, 0, 0, 0, "server",       \
      "2.6.0", call_connection, "Answers with the server's time in seconds and microseconds.")     \
    X("DISCARD", "", 1, F_TX, 0, 0, 0, "transactions", "2.0.0", call_connection,                   \
      "Drops the queued commands and ends the transaction.")                                       \
    X("EXEC", "", 1, F_FREE | CMD_SKIP_SLOWLOG, 0, 0, 0, "transactions", "1.2.0", call_connection, \
      "Runs the queued commands as one, unless a watched key has changed.")                        \
    X("MULTI", "", 1, F_TX | CMD_NO_MULTI, 0, 0, 0, "transactions", "1.2.0", call_connection,      \
      "Begins to queue commands for EXEC.")                                                        \
    X("UNWATCH", "", 1, F_TX, 0, 0, 0, "transactions", "2.2.0", call_connection,                   \
      "Forgets all watched keys.")                                                                 \
    X("WATCH", "key [key ...]", -2, F_TX | CMD_NO_MULTI, 1, -1, 1, "transactions", "2.2.0",        \
      call_connection, "Makes the next EXEC depend on these keys being unchanged.")

#define COMMAND_TABLE_GENERIC(X)                                                                   \
    X("DBSIZE", "", 1, CMD_READ | CMD_FAST, 0, 0, 0, "server", "1.0.0", call_dbsize,               \
      "Counts the keys of the database.")                                                          \
    X("FLUSHALL", "[ASYNC | SYNC]", -1, CMD_WRITE, 0, 0, 0, "server", "1.0.0", call_flushall,      \
      "Deletes all keys of all databases.")                                                        \
    X("FLUSHDB", "[ASYNC | SYNC]", -1, CMD_WRITE, 0, 0, 0, "server", "1.0.0", call_flushdb,        \
      "Deletes all keys of the database.")                                                         \
    X("COPY", "source destination [DB destination-db] [REPLACE]", -3, F_ADD, 1, 2, 1, "generic",   \
      "6.2.0", call_copy, "Copies a key with its expiry.")                                         \
    X("DEL", "key [key ...]", -2, CMD_WRITE, 1, -1, 1, "generic", "1.0.0", call_del,               \
      "Deletes keys.")                                                                             \
    X("EXISTS", "key [key ...]", -2, CMD_READ | CMD_FAST, 1, -1, 1, "generic", "1.0.0",            \
      call_exists, "Counts which of the keys exist.")                                              \
    X("EXPIRE", "key seconds [NX | XX | GT | LT]", -3, CMD_WRITE | CMD_FAST, 1, 1, 1, "generic",   \
      "1.0.0", call_expire, "Lets a key expire after a number of seconds.")                        \
    X("EXPIREAT", "key unix-time-seconds [NX | XX | GT | LT]", -3, CMD_WRITE | CMD_FAST, 1, 1, 1,  \
      "generic", "1.2.0", call_expireat, "Lets a key expire at a time given in seconds.")          \
    X("EXPIRETIME", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "generic", "7.0.0", call_expiretime,   \
      "Answers when a key expires, in seconds since 1970.")                                        \
    X("KEYS", "pattern", 2, CMD_READ, 0, 0, 0, "generic", "1.0.0", call_keys,                      \
      "Lists the keys that match a pattern.")                                                      \
    X("MOVE", "key db", 3, CMD_WRITE | CMD_FAST, 1, 1, 1, "generic", "1.0.0", call_move,           \
      "Moves a key to another database, unless it exists there.")                                  \
    X("OBJECT", "ENCODING | FREQ | IDLETIME | REFCOUNT | HELP [key]", -2, CMD_READ, 0, 0, 0,       \
      "generic", "2.2.3", call_object, "Tells how Redis would hold the value of a key.")           \
    X("PERSIST", "key", 2, CMD_WRITE | CMD_FAST, 1, 1, 1, "generic", "2.2.0", call_persist,        \
      "Takes the expiry off a key.")                                                               \
    X("PEXPIRE", "key milliseconds [NX | XX | GT | LT]", -3, CMD_WRITE | CMD_FAST, 1, 1, 1,        \
      "generic", "2.6.0", call_pexpire, "Lets a key expire after a number of milliseconds.")       \
    X("PEXPIREAT", "key unix-time-milliseconds [NX | XX | GT | LT]", -3, CMD_WRITE | CMD_FAST,     \
      1, 1, 1, "generic", "2.6.0", call_pexpireat,                                                 \
      "Lets a key expire at a time given in milliseconds.")                                        \
    X("PEXPIRETIME", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "generic", "7.0.0", call_pexpiretime, \
      "Answers when a key expires, in milliseconds since 1970.")                                   \
    X("PTTL", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "generic", "2.6.0", call_pttl,               \
      "Answers how many milliseconds a key has left.")                                             \
    X("RANDOMKEY", "", 1, CMD_READ, 0, 0, 0, "generic", "1.0.0", call_randomkey,                   \
      "Answers with some key of the database.")                                                    \
    X("RENAME", "key newkey", 3, CMD_WRITE, 1, 2, 1, "generic", "1.0.0", call_rename,              \
      "Renames a key, over whatever has the new name.")                                            \
    X("RENAMENX", "key newkey", 3, CMD_WRITE | CMD_FAST, 1, 2, 1, "generic", "1.0.0",              \
      call_renamenx, "Renames a key, unless the new name is taken.")                               \
    X("SCAN", "cursor [MATCH pattern] [COUNT count] [TYPE type]", -2, CMD_READ, 0, 0, 0,           \
      "generic", "2.8.0", call_scan, "Walks over the keys of the database, page by page.")         \
    X("TOUCH", "key [key ...]", -2, CMD_READ | CMD_FAST, 1, -1, 1, "generic", "3.2.1", call_touch, \
      "Counts which of the keys exist.")                                                           \
    X("TTL", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "generic", "1.0.0", call_ttl,                 \
      "Answers how many seconds a key has left.")                                                  \
    X("TYPE", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "generic", "1.0.0", call_type,               \
      "Answers with the type of a key.")                                                           \
    X("UNLINK", "key [key ...]", -2, CMD_WRITE | CMD_FAST, 1, -1, 1, "generic", "4.0.0",           \
      call_del, "Deletes keys.")

#define COMMAND_TABLE_STRING(X)                                                                    \
    X("APPEND", "key value", 3, F_ADD | CMD_FAST, 1, 1, 1, "string", "2.0.0", call_append,         \
      "Appends to a string.")                                                                      \
    X("DECR", "key", 2, F_ADD | CMD_FAST, 1, 1, 1, "string", "1.0.0", call_decr,                   \
      "Takes one off an integer.")                                                                 \
    X("DECRBY", "key decrement", 3, F_ADD | CMD_FAST, 1, 1, 1, "string", "1.0.0", call_decrby,     \
      "Takes a number off an integer.")                                                            \
    X("GET", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "string", "1.0.0", call_get,                  \
      "Answers with the string of a key.")                                                         \
    X("GETDEL", "key", 2, CMD_WRITE | CMD_FAST, 1, 1, 1, "string", "6.2.0", call_getdel,           \
      "Answers with the string of a key and deletes it.")                                          \
    X("GETEX", "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | "                     \
      "PXAT unix-time-milliseconds | PERSIST]", -2, CMD_WRITE | CMD_FAST, 1, 1, 1, "string",       \
      "6.2.0", call_getex, "Answers with the string of a key and sets its expiry.")                \
    X("GETRANGE", "key start end", 4, CMD_READ, 1, 1, 1, "string", "2.4.0", call_getrange,         \
      "Answers with a part of a string.")                                                          \
    X("GETSET", "key value", 3, F_ADD | CMD_FAST, 1, 1, 1, "string", "1.0.0", call_getset,         \
      "Sets a string and answers with the one before.")                                            \
    X("INCR", "key", 2, F_ADD | CMD_FAST, 1, 1, 1, "string", "1.0.0", call_incr,                   \
      "Adds one to an integer.")                                                                   \
    X("INCRBY", "key increment", 3, F_ADD | CMD_FAST, 1, 1, 1, "string", "1.0.0", call_incrby,     \
      "Adds a number to an integer.")                                                              \
    X("INCRBYFLOAT", "key increment", 3, F_ADD | CMD_FAST, 1, 1, 1, "string", "2.6.0",             \
      call_incrbyfloat, "Adds a number to a floating-point number.")                               \
    X("MGET", "key [key ...]", -2, CMD_READ | CMD_FAST, 1, -1, 1, "string", "1.0.0", call_mget,    \
      "Answers with the strings of several keys.")                                                 \
    X("MSET", "key value [key value ...]", -3, F_ADD, 1, -1, 2, "string", "1.0.1", call_mset,      \
      "Sets several strings as one.")                                                              \
    X("MSETNX", "key value [key value ...]", -3, F_ADD, 1, -1, 2, "string", "1.0.1", call_msetnx,  \
      "Sets several strings, if none of the keys exists.")                                         \
    X("PSETEX", "key milliseconds value", 4, F_ADD, 1, 1, 1, "string", "2.6.0", call_psetex,       \
      "Sets a string that expires after a number of milliseconds.")                                \
    X("SET", "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | " \
      "PXAT unix-time-milliseconds | KEEPTTL]", -3, F_ADD, 1, 1, 1, "string", "1.0.0", call_set,   \
      "Sets a string, with conditions and expiry.")                                                \
    X("SETEX", "key seconds value", 4, F_ADD, 1, 1, 1, "string", "2.0.0", call_setex,              \
      "Sets a string that expires after a number of seconds.")                                     \
    X("SETNX", "key value", 3, F_ADD | CMD_FAST, 1, 1, 1, "string", "1.0.0", call_setnx,           \
      "Sets a string, if the key does not exist.")                                                 \
    X("SETRANGE", "key offset value", 4, F_ADD, 1, 1, 1, "string", "2.2.0", call_setrange,         \
      "Overwrites a part of a string.")                                                            \
    X("STRLEN", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "string", "2.2.0", call_strlen,            \
      "Answers with the length of a string in bytes.")                                             \
    X("SUBSTR", "key start end", 4, CMD_READ, 1, 1, 1, "string", "1.0.0", call_getrange,           \
      "The old name of GETRANGE.")

#define COMMAND_TABLE_HASH(X)                                                                      \
    X("HDEL", "key field [field ...]", -3, CMD_WRITE | CMD_FAST, 1, 1, 1, "hash", "2.0.0",         \
      call_hdel, "Deletes fields of a hash.")                                                      \
    X("HEXISTS", "key field", 3, CMD_READ | CMD_FAST, 1, 1, 1, "hash", "2.0.0", call_hexists,      \
      "Tells whether a hash has a field.")                                                         \
    X("HGET", "key field", 3, CMD_READ | CMD_FAST, 1, 1, 1, "hash", "2.0.0", call_hget,            \
      "Answers with the value of a field.")                                                        \
    X("HGETALL", "key", 2, CMD_READ, 1, 1, 1, "hash", "2.0.0", call_hgetall,                       \
      "Answers with all fields and values of a hash.")                                             \
    X("HINCRBY", "key field increment", 4, F_ADD | CMD_FAST, 1, 1, 1, "hash", "2.0.0",             \
      call_hincrby, "Adds a number to the integer in a field.")                                    \
    X("HINCRBYFLOAT", "key field increment", 4, F_ADD | CMD_FAST, 1, 1, 1, "hash", "2.6.0",        \
      call_hincrbyfloat, "Adds a number to the floating-point number in a field.")                 \
    X("HKEYS", "key", 2, CMD_READ, 1, 1, 1, "hash", "2.0.0", call_hkeys,                           \
      "Answers with all fields of a hash.")                                                        \
    X("HLEN", "key", 2, CMD_READ | CMD_FAST, 1, 1, 1, "hash", "2.0.0", call_hlen,                  \
      "Counts the fields of a hash.")                                                              \
    X("HMGET", "key field [field ...]", -3, CMD_READ | CMD_FAST, 1, 1, 1, "hash", "2.0.0",         \
      call_hmget, "Answers with the values of several fields.")                                    \
    X("HMSET", "key field value [field value ...]", -4, F_ADD | CMD_FAST, 1, 1, 1, "hash",         \
      "2.0.0", call_hset, "Sets fields of a hash; HSET does it as well.")                          \
    X("HRANDFIELD", "key [count [WITHVALUES]]", -2, CMD_READ, 1, 1, 1, "hash", "6.2.0",            \
      call_hrandfield, "Answers with some fields of a hash.")                                      \
    X("HSCAN", "key cursor [MATCH pattern] [COUNT count]", -3, CMD_READ, 1, 1, 1, "hash",          \
      "2.8.0", call_hscan, "Walks over the fields of a hash, page by page.")                       \
    X("HSET", "key field value [field value ...]", -4, F_ADD | CMD_FAST, 1, 1, 1, "hash", "2.0.0", \
      call_hset, "Sets fields of a hash.")                                                         \
    X("HSETNX", "key field value", 4, F_ADD | CMD_FAST, 1, 1, 1, "hash", "2.0.0", call_hsetnx,     \
      "Sets a field of a hash, if it does not exist.")                                             \
    X("HSTRLEN", "key field", 3, CMD_READ | CMD_FAST, 1, 1, 1, "hash", "3.2.0", call_hstrlen,      \
      "Answers with the length of a field's value in bytes.")                                      \
    X("HVALS", "key", 2, CMD_READ, 1, 1, 1, "hash", "2.0.0", call_hvals,                           \
      "Answers with all values of a hash.")

#define COMMAND_TABLE_INTERNAL(X)                                                                  \
    X("KV.CHANGES", "since filter text values", 5, F_OWN_READ, 0, 0, 0, "http", "",                \
      call_kv_changes, "Tells what has changed behind a revision.")                                \
    X("KV.COUNT", "", 1, F_OWN_READ, 0, 0, 0, "server", "", call_kv_count,                         \
      "Counts keys and those that expire.")                                                        \
    X("KV.DEL", "key if-match if-none-match", 4, F_OWN_WRITE, 1, 1, 1, "http", "", call_kv_del,    \
      "Deletes over HTTP.")                                                                        \
    X("KV.GET", "key", 2, F_OWN_READ, 1, 1, 1, "http", "", call_kv_get, "Reads over HTTP.")        \
    X("KV.HEAD", "key", 2, F_OWN_READ, 1, 1, 1, "http", "", call_kv_head,                          \
      "Reads over HTTP all but the value.")                                                        \
    X("KV.INCR", "key by min max ttl", 6, F_OWN_WRITE | CMD_GROWS, 1, 1, 1, "http", "",            \
      call_kv_incr, "Counts over HTTP.")                                                           \
    X("KV.LIST", "prefix delimiter after limit values", 6, F_OWN_READ, 0, 0, 0, "http", "",        \
      call_kv_list, "Lists keys over HTTP.")                                                       \
    X("KV.PUT", "key value content-type ttl if-match if-none-match", 7, F_OWN_WRITE | CMD_GROWS,   \
      1, 1, 1, "http", "", call_kv_put, "Writes over HTTP.")                                       \
    X("KV.REV", "key [key ...]", -2, F_OWN_READ, 1, -1, 1, "http", "", call_kv_rev,                \
      "Answers with the revisions of keys.")                                                       \
    X("KV.TXN", "guards thens elses ...", -4, F_OWN_WRITE | CMD_GROWS, 0, 0, 0, "http", "",        \
      call_kv_txn, "Runs a guarded transaction over HTTP.")                                        \
    X("TX.EXEC", "watches commands ...", -3, F_OWN_WRITE | CMD_GROWS, 0, 0, 0, "transactions",     \
      "", call_tx_exec, "Runs what a connection queued between MULTI and EXEC.")                   \
    X("TX.READ", "commands ...", -2, F_OWN_READ, 0, 0, 0, "transactions", "", call_tx_read,        \
      "Runs several reads on one state.")                                                          \
    X("SESSION.OPEN", "", 1, F_OWN_WRITE, 0, 0, 0, "node", "", call_storage,                       \
      "Creates a client session.")                                                                 \
    X("SESSION.SWEEP", "now-ms", 2, F_OWN_WRITE, 0, 0, 0, "node", "", call_storage,                \
      "Removes silent client sessions.")                                                           \
    X("ONCE.EXEC", "id command [argument ...]", -3, F_OWN_WRITE | CMD_GROWS, 0, 0, 0, "http", "",  \
      call_storage, "Executes a command unless that id has executed it before.")                   \
    X("ONCE.SWEEP", "now-ms limit", 3, F_OWN_WRITE, 0, 0, 0, "node", "", call_storage,             \
      "Forgets ids of requests after their day.")                                                  \
    X("EXPIRE.SWEEP", "now-ms limit", 3, F_OWN_WRITE, 0, 0, 0, "node", "", call_expire_sweep,      \
      "Deletes expired keys.")                                                                     \
    X("SITE.PUT", "hash block [hash block ...]", -3, F_OWN_WRITE | CMD_GROWS, 0, 0, 0, "sites",     \
      "", call_site_put, "Stores blocks of files.")                                                \
    X("SITE.STAGE", "site hosts keep manifest-bytes hashes note", 7,                   \
      F_OWN_WRITE | CMD_GROWS, 0, 0, 0, "sites", "", call_site_stage, "Begins a deploy.")          \
    X("SITE.PIN", "id from", 3, F_OWN_WRITE | CMD_GROWS, 0, 0, 0, "sites", "", call_site_pin,      \
      "Ties blocks to a deploy.")                                                                  \
    X("SITE.SWITCH", "id", 2, F_OWN_WRITE, 0, 0, 0, "sites", "", call_site_switch,                 \
      "Makes a deploy the one that its site shows.")                                               \
    X("SITE.DROP", "id", 2, F_OWN_WRITE, 0, 0, 0, "sites", "", call_site_drop,                     \
      "Gives a deploy up.")                                                                        \
    X("SITE.DELETE", "site", 2, F_OWN_WRITE, 0, 0, 0, "sites", "", call_site_delete,               \
      "Deletes a site with its deploys.")                                                          \
    X("SITE.SWEEP", "now-ms limit", 3, F_OWN_WRITE, 0, 0, 0, "node", "", call_site_sweep,          \
      "Removes what dropped deploys leave.")                                                       \
    X("SITE.HAVE", "hash [hash ...]", -2, F_OWN_READ, 0, 0, 0, "sites", "", call_site_have,        \
      "Tells which blocks are there.")                                                             \
    X("SITE.GET", "hash", 2, F_OWN_READ, 0, 0, 0, "sites", "", call_site_get, "Reads a block.")    \
    X("SITE.LIST", "", 1, F_OWN_READ, 0, 0, 0, "sites", "", call_site_list,                        \
      "Lists sites and their deploys.")                                                            \
    X("NODE.ALLOC", "", 1, F_OWN_WRITE, 0, 0, 0, "node", "", call_node_alloc,                      \
      "Gives out a node id.")

#define COMMAND_TABLE(X)                                                                           \
    COMMAND_TABLE_CONNECTION(X)                                                                    \
    COMMAND_TABLE_GENERIC(X)                                                                       \
    COMMAND_TABLE_STRING(X)                                                                        \
    COMMAND_TABLE_HASH(X)                                                                          \
    COMMAND_TABLE_INTERNAL(X)
/* clang-format on */
